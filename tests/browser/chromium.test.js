// What a browser makes of the program's answers: its own EventSource, WebSocket and fetch, and the JavaScript client. Who runs this
// (tests/browser_test.go) says at POSTBUS_CONTROL where the program listens, and kills and starts it when asked to.
import assert from 'node:assert/strict';
import test, { after } from 'node:test';
import { close, foreignOrigin, fresh, front, got, killed, open, origin, patience, send, stopped, upTo } from './page.js';

after(close);

/** Begins to read by an EventSource: window.got has the payloads, window.cursors every id, window.told the other events. */
const readEvents = (page, url) => page.evaluate((at) => {
  Object.assign(window, { got: [], cursors: [], told: [], opened: 0 });
  window.source = new EventSource(at);
  window.source.onopen = () => window.opened++;
  window.source.onmessage = (e) => {
    window.got.push(JSON.parse(e.data).payload);
    window.cursors.push(Number(e.lastEventId));
  };
  for (const name of ['position', 'gap', 'fault']) {
    window.source.addEventListener(name, (e) => {
      window.told.push([name, JSON.parse(e.data), e.lastEventId]);
      if (name !== 'fault') window.cursors.push(Number(e.lastEventId));
    });
  }
}, url);

const subscribeURL = (proxy, channel, more = '') => `${proxy.url}/v1/subscribe?channels=${encodeURIComponent(channel)}&heartbeat=1s${more}`;

test('EventSource: everything once and in order over two kills and a stop', patience, async (t) => {
  const [proxy, page, channel] = [await front(t), await open(t), fresh()];
  await readEvents(page, subscribeURL(proxy, channel, '&after=0'));
  await send(channel, ...upTo(20));
  await got(page, 20);
  for (const [from, restarted] of [[20, killed], [40, killed], [60, stopped]]) {
    await restarted();
    await send(channel, ...upTo(20).map((i) => from + i)); // before the browser comes back
    await got(page, from + 20);
  }
  assert.deepEqual(await page.evaluate(() => window.got), upTo(80));
  const { cursors, opened, told } = await page.evaluate(() => ({ cursors: window.cursors, opened: window.opened, told: window.told }));
  assert.deepEqual(cursors, cursors.toSorted((a, b) => a - b));
  assert.equal(opened, 4);
  assert.deepEqual(told.filter(([name]) => name === 'fault').map(([, data]) => data.error.reason), ['DRAINING']);
});

test('EventSource: one that is cut before its first notification misses nothing', patience, async (t) => {
  const [proxy, page, channel] = [await front(t), await open(t), fresh()];
  await send(channel, 'of before');
  await readEvents(page, subscribeURL(proxy, channel)); // from now on
  await page.waitForFunction(() => window.told.some(([name]) => name === 'position'));
  await killed();
  await send(channel, 0, 1, 2);
  assert.deepEqual(await got(page, 3), [0, 1, 2]);
});

test('EventSource: a gap is an event, and reading goes on behind it', patience, async (t) => {
  const [proxy, page, channel] = [await front(t), await open(t), fresh()];
  await readEvents(page, subscribeURL(proxy, channel, `&after=${2 ** 52}`));
  await page.waitForFunction(() => window.told.some(([name]) => name === 'gap'));
  const [[, gap, id]] = await page.evaluate(() => window.told);
  assert.deepEqual([gap.reason, String(gap.until)], ['REASON_AHEAD', id]);
  await send(channel, 1);
  assert.deepEqual(await got(page, 1), [1]);
});

test('EventSource: a refusal that retrying cannot cure ends it', patience, async (t) => {
  const [proxy, page] = [await front(t), await open(t)];
  await page.evaluate((at) => {
    window.refused = new EventSource(at);
  }, subscribeURL(proxy, 'x'.repeat(300)));
  await page.waitForFunction(() => window.refused.readyState === EventSource.CLOSED);
});

test('WebSocket: everything once and in order over two kills', patience, async (t) => {
  const [proxy, page, channel] = [await front(t), await open(t), fresh()];
  await page.evaluate(([url, name]) => {
    Object.assign(window, { got: [], protocols: new Set(), codes: [] });
    let last = 0;
    const connect = () => {
      const socket = new WebSocket(`${url.replace('http', 'ws')}/v1/subscribe`, 'postbus.v1');
      socket.onopen = () => {
        window.protocols.add(socket.protocol);
        socket.send(JSON.stringify({ subscribe: { channels: [name], after: last, heartbeat: '1s' }, request: '1' }));
      };
      socket.onmessage = ({ data }) => {
        const frame = JSON.parse(data);
        if (frame.ack) return;
        window.got.push(...frame.notifications.map((n) => n.payload));
        last = frame.last;
      };
      socket.onclose = () => setTimeout(connect, 100);
    };
    connect();
  }, [proxy.url, channel]);
  await send(channel, ...upTo(20));
  await got(page, 20);
  for (const from of [20, 40]) {
    await killed();
    await send(channel, ...upTo(20).map((i) => from + i));
    await got(page, from + 20);
  }
  assert.deepEqual(await page.evaluate(() => [window.got, [...window.protocols]]), [upTo(60), ['postbus.v1']]);
});

test('WebSocket: a refusal is readable', patience, async (t) => {
  const [proxy, page] = [await front(t), await open(t)];
  const { frames, code } = await page.evaluate((url) => new Promise((resolve) => {
    const frames = [];
    const socket = new WebSocket(`${url.replace('http', 'ws')}/v1/subscribe?channels=a&colour=red`);
    socket.onmessage = ({ data }) => frames.push(JSON.parse(data));
    socket.onclose = ({ code }) => resolve({ frames, code });
  }), proxy.url);
  assert.deepEqual([frames[0].error.reason, code], ['UNKNOWN_FIELD', 1008]);
  assert.match(frames[0].error.message, /colour/);
});

/** What a page sees of a fetch. */
const fetched = (page, url, init) => page.evaluate(([at, how]) => fetch(at, how).then(
  async (r) => ({ status: r.status, type: r.headers.get('Content-Type'), retryAfter: r.headers.get('Retry-After'), body: await r.json() }),
  (error) => ({ failed: error.name }),
), [url, init]);

const post = (body, type = 'application/json') => ({ method: 'POST', headers: { 'Content-Type': type }, body });

test('fetch: answers and refusals are readable to a page of an origin that is listed', patience, async (t) => {
  const [proxy, page, channel] = [await front(t), await open(t), fresh()];
  const sent = await fetched(page, `${proxy.url}/v1/send`, post(JSON.stringify({ messages: [{ channel, payload: 7 }] })));
  assert.deepEqual([sent.status, sent.body.results.length], [200, 1]);
  const polled = await fetched(page, `${proxy.url}/v1/poll?channels=${encodeURIComponent(channel)}&after=0`);
  assert.deepEqual(polled.body.notifications.map((n) => n.payload), [7]);
  for (const [path, init, status, reason] of [
    ['/v1/send', post('{'), 400, 'MALFORMED_JSON'],
    ['/v1/send', post('{"messages":[{"channel":"a","colour":1}]}'), 400, 'UNKNOWN_FIELD'],
    ['/v1/send', post('{}', 'text/plain'), 415, 'UNSUPPORTED_MEDIA_TYPE'],
    ['/v1/poll?channels=', undefined, 400, 'INVALID_FIELD'],
    ['/v1/nothing', undefined, 404, 'NOT_FOUND'],
  ]) {
    const refused = await fetched(page, proxy.url + path, init);
    assert.deepEqual([refused.status, refused.type, refused.body?.error?.reason], [status, 'application/json', reason], path);
  }
});

test('a page of an origin that is not listed reads nothing, sends nothing and learns nothing', patience, async (t) => {
  const [proxy, page, channel] = [await front(t), await open(t, foreignOrigin), fresh()];
  await send(channel, 'secret');
  const body = JSON.stringify({ messages: [{ channel, payload: 'forged' }] });
  assert.deepEqual(await fetched(page, `${proxy.url}/v1/poll?channels=${encodeURIComponent(channel)}&after=0`), { failed: 'TypeError' });
  assert.deepEqual(await fetched(page, `${proxy.url}/v1/send`, post(body)), { failed: 'TypeError' });
  for (const init of [post(body, 'text/plain'), { method: 'POST', body: new URLSearchParams({ a: body }).toString() }]) {
    await page.evaluate(([at, how]) => fetch(at, { ...how, mode: 'no-cors' }), [`${proxy.url}/v1/send`, init]); // what needs no preflight
  }
  await readEvents(page, subscribeURL(proxy, channel, '&after=0'));
  await page.waitForFunction(() => window.source.readyState === EventSource.CLOSED);
  const { frames, code } = await page.evaluate((url) => new Promise((resolve) => {
    const frames = [];
    const socket = new WebSocket(url.replace('http', 'ws'));
    socket.onopen = () => socket.send('{"subscribe":{"channels":["a"]}}');
    socket.onmessage = ({ data }) => frames.push(JSON.parse(data));
    socket.onclose = ({ code }) => resolve({ frames, code });
  }), subscribeURL(proxy, channel, '&after=0'));
  assert.deepEqual([frames.map((f) => f.error?.reason).filter(Boolean), frames.flatMap((f) => f.notifications ?? []), code], [['FORBIDDEN'], [], 1008]);
  assert.deepEqual(await page.evaluate(() => [window.got, window.told]), [[], []]);
  const stored = await (await fetch(`${proxy.url}/v1/poll?channels=${encodeURIComponent(channel)}&after=0`)).json();
  assert.deepEqual(stored.notifications.map((n) => n.payload), ['secret']);
});

/** Begins to read by the client, as a page imports it: window.got has the payloads, window.opened the transports. */
const follow = (page, url, channel, options = {}) => page.evaluate(async ([at, name, how]) => {
  const { Client } = await import('/client/index.js');
  Object.assign(window, { got: [], opened: [], ended: undefined });
  const subscription = new Client(at, how).subscribe([name], {
    after: 0, heartbeat: 1000, onState: (s) => s.state === 'open' && window.opened.push(s.transport),
  });
  (async () => {
    for await (const { notification } of subscription) if (notification) window.got.push(notification.payload);
  })().catch((error) => {
    window.ended = String(error);
  });
}, [url, channel, options]);

for (const [name, rules, transport] of [
  ['a free way: WebSocket', {}, 'websocket'],
  ['upgrades are refused: SSE', { refuseUpgrades: true }, 'sse'],
  ['upgrades are refused and events buffered: long-poll', { refuseUpgrades: true, holdEvents: true }, 'poll'],
]) {
  test(`the client, ${name}; everything once and in order over a kill`, patience, async (t) => {
    const [proxy, page, channel] = [await front(t), await open(t), fresh()];
    Object.assign(proxy, rules);
    await follow(page, proxy.url, channel, { openTimeout: 1000 });
    await send(channel, ...upTo(20));
    await got(page, 20);
    await killed(() => proxy.cut());
    await send(channel, ...upTo(20).map((i) => 20 + i));
    assert.deepEqual(await got(page, 40), upTo(40));
    const { opened, ended } = await page.evaluate(() => ({ opened: window.opened, ended: window.ended }));
    // A program that comes back between two attempts may make the next best the one that works.
    assert.deepEqual([opened[0], ended], [transport, undefined]);
  });
}

test('the client: a page sends, and a refusal names the field', patience, async (t) => {
  const [proxy, page, channel] = [await front(t), await open(t), fresh()];
  const said = await page.evaluate(async ([url, name]) => {
    const { Client, newKey } = await import('/client/index.js');
    const bus = new Client(url);
    const key = newKey();
    const message = { channel: name, binary: Uint8Array.of(0, 255), key };
    const receipts = [...await bus.send([message]), ...await bus.send([message])];
    const { notifications } = await bus.poll([name], { after: 0 });
    const error = await bus.send([{ channel: '' }]).catch((e) => e);
    return { duplicates: receipts.map((r) => r.duplicate), bytes: [...notifications[0].binary], count: notifications.length, reason: error.reason, message: error.message };
  }, [proxy.url, channel]);
  assert.deepEqual(said, { duplicates: [false, true], bytes: [0, 255], count: 1, reason: 'INVALID_FIELD', message: 'messages[0].channel: empty, 1 to 255 bytes' });
});

test('the example: a page shows what it sends, and what others send while the program is away', patience, async (t) => {
  const [proxy, page, channel] = [await front(t), await open(t), fresh()];
  await page.goto(`${origin}/examples/web/?server=${proxy.url}&channel=${encodeURIComponent(channel)}`);
  await page.fill('input', 'hello');
  await page.click('button');
  await page.waitForFunction(() => document.querySelectorAll('li').length === 1);
  await killed(() => proxy.cut());
  await send(channel, 7);
  await page.waitForFunction(() => document.querySelectorAll('li').length === 2);
  const lines = await page.$$eval('li', (list) => list.map((li) => li.textContent.replace(/^[0-9]+ /, '')));
  assert.deepEqual(lines, [' 7', 'example {"text":"hello"}']);
  assert.match(await page.textContent('output'), /^open, by /);
});
