// What a browser makes of the program behind a proxy that speaks TLS and HTTP/2, at POSTBUS_ORIGIN. Who runs this
// (tests/nginx_tls_test.go) kills and starts the program when asked to.
import assert from 'node:assert/strict';
import test, { after } from 'node:test';
import { close, fresh, got, killed, open, origin, patience, send, upTo } from './page.js';

after(close);

/** A page of the proxy's own origin. */
const openHere = (t) => open(t, `${origin}/openapi.json`, { ignoreHTTPSErrors: true });

test('twenty streams share a connection of HTTP/2, and none waits for another', patience, async (t) => {
  const [page, channel] = [await openHere(t), fresh()];
  await page.evaluate(async (name) => {
    window.got = [];
    const sources = Array.from({ length: 20 }, (_, i) => new EventSource(`/v1/subscribe?channels=${encodeURIComponent(name)}&after=0&_reader=${i}`));
    for (const source of sources) source.onmessage = (e) => window.got.push(JSON.parse(e.data).payload);
    await Promise.all(sources.map((source) => new Promise((resolve) => { source.onopen = resolve; })));
    const answer = await fetch(`/v1/poll?channels=${encodeURIComponent(name)}&timeout=0s`); // a browser's seventh of HTTP/1.1 would wait
    await answer.text();
    window.polled = answer.status;
    window.protocol = performance.getEntriesByType('resource').find((e) => e.name.includes('/v1/poll')).nextHopProtocol;
  }, channel);
  await send(channel, 7);
  assert.deepEqual(await got(page, 20), Array(20).fill(7));
  assert.deepEqual(await page.evaluate(() => [window.polled, window.protocol]), [200, 'h2']);
});

test('an EventSource comes back after a kill, although the proxy answers for the program meanwhile', patience, async (t) => {
  const [page, channel] = [await openHere(t), fresh()];
  await page.evaluate((name) => {
    Object.assign(window, { got: [], failed: 0 });
    window.source = new EventSource(`/v1/subscribe?channels=${encodeURIComponent(name)}&after=0`);
    window.source.onmessage = (e) => window.got.push(JSON.parse(e.data).payload);
    window.source.onerror = () => window.failed++;
  }, channel);
  await send(channel, ...upTo(20));
  await got(page, 20);
  // Away until the browser has been answered by the proxy alone: with a stream that ends.
  await killed(() => page.waitForFunction(() => window.failed >= 2));
  await send(channel, ...upTo(20).map((i) => 20 + i));
  assert.deepEqual(await got(page, 40), upTo(40));
});

test('a WebSocket through TLS', patience, async (t) => {
  const [page, channel] = [await openHere(t), fresh()];
  await page.evaluate((name) => {
    window.got = [];
    const socket = new WebSocket(`wss://${location.host}/v1/subscribe?channels=${encodeURIComponent(name)}&after=0`, 'postbus.v1');
    socket.onmessage = ({ data }) => window.got.push(...JSON.parse(data).notifications.map((n) => n.payload));
  }, channel);
  await send(channel, ...upTo(20));
  assert.deepEqual(await got(page, 20), upTo(20));
});
