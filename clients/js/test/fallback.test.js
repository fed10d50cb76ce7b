import assert from 'node:assert/strict';
import test from 'node:test';
import { Choice } from '../src/choice.js';
import { Client } from '../src/index.js';
import { event, fault, patience, play, position, response, take, told } from './support/script.js';

/** Follows a subscription's transports, which it tries and which open, and its errors. */
function follow(bus, options = {}) {
  const tried = [];
  const opened = [];
  const errors = [];
  const subscription = bus.subscribe(['a'], { ...options, onState: (s) => {
    if (s.state === 'connecting') tried.push(s.transport);
    if (s.state === 'open') opened.push(s.transport);
    if (s.state === 'waiting') errors.push(s.error);
  } });
  return { subscription, tried, opened, errors };
}

test('a WebSocket that is refused gives way to SSE, and no subscription waits for it again', patience, async (t) => {
  const server = await play(t, { sse(stream, _, { after }) {
    stream.write(event(after + 1));
    stream.write(fault(told('UNAVAILABLE', 14, 'DRAINING'), 1));
  } });
  const bus = new Client(server.url);
  for (let round = 0; round < 2; round++) {
    const { subscription, tried, opened } = follow(bus, { after: 0 });
    await take(subscription, 3);
    assert.deepEqual(opened, ['sse', 'sse', 'sse']);
    // The second subscription knows it from the first.
    assert.deepEqual(tried, round === 0 ? ['websocket', ...opened] : opened);
  }
});

test('a refusal of the last transport is not final while others are left out', patience, async (t) => {
  const server = await play(t, { sse(stream, n) {
    stream.write(event(n));
    stream.end();
  } });
  const { subscription, opened } = follow(new Client(server.url, { transports: ['sse', 'poll'] }), { after: 0 });
  const events = await take(subscription, 5); // three cuts, and a server without long-poll
  assert.deepEqual(events.map((e) => e.last), [1, 2, 3, 4, 5]);
  assert.equal(opened.length, 5);
  assert.ok(server.requests.some((r) => r.path === '/v1/poll'));
});

test('a WebSocket that is accepted and then says nothing gives way', patience, async (t) => {
  const server = await play(t, { socket() {}, sse: (stream) => stream.write(event(1)) });
  const { subscription, opened } = follow(new Client(server.url, { openTimeout: 300 }), { after: 0 });
  await take(subscription, 1);
  assert.deepEqual(opened, ['sse']);
});

test('SSE that is held back gives way to long-poll', patience, async (t) => {
  const server = await play(t, {
    sse: (stream) => stream.write(': '.padEnd(2000, ' ')), // headers and nothing that says something
    poll: ({ answer }) => answer(200, response(2, 1, 2)),
  });
  const { subscription, opened } = follow(new Client(server.url, { openTimeout: 300 }), { after: 0 });
  await take(subscription, 2);
  assert.deepEqual(opened, ['poll']);
  assert.deepEqual([server.calls.socket, server.calls.sse, server.calls.poll], [1, 1, 1]);
});

test('streams that are cut again and again give way to long-polls that end in time', patience, async (t) => {
  const waits = [];
  const short = 1500; // what the proxy allows
  const server = await play(t, {
    socket(socket, n, { subscribe: { after } }) {
      socket.send(response(after + 1, after + 1));
      setTimeout(() => socket.cut(), 20);
    },
    sse(stream, n, { after }) {
      stream.write(event(after + 1));
      setTimeout(() => stream.cut(), 20);
    },
    poll({ answer, cut }, n, { after, timeout }) {
      const ms = Number.parseFloat(timeout) * 1000;
      waits.push(ms);
      if (ms >= short) setTimeout(cut, short);
      else if (ms === 0) answer(200, response(after));
      else setTimeout(() => answer(200, response(after + 1, after + 1)), ms / 4);
    },
  });
  const { subscription, opened } = follow(new Client(server.url), { after: 0 });
  const events = await take(subscription, 9);
  assert.deepEqual(events.map((e) => e.notification.id), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.deepEqual(opened.slice(0, 7), ['websocket', 'websocket', 'websocket', 'sse', 'sse', 'sse', 'poll']);
  assert.equal(waits[1], 25_000);
  assert.deepEqual(waits.slice(2).filter((ms) => ms !== 0 && (ms < 1000 || ms >= short)), []);
});

test('a server that is away is no transport\'s fault', patience, async (t) => {
  let away = true;
  const server = await play(t, {
    socket: (socket) => (away ? socket.cut() : socket.send(response(1, 1))),
    sse: (stream) => (away ? stream.cut() : stream.write(event(1))),
    poll: ({ answer, cut }) => (away ? cut() : answer(200, response(1, 1))),
  });
  const { subscription, opened, errors } = follow(new Client(server.url), { after: 0 });
  const timer = setInterval(() => { away = errors.length < 3; }, 1);
  t.after(() => clearInterval(timer));
  // It may come back between two transports of a round; the next round has the better one again.
  await take(subscription, 1);
  assert.equal(opened.length, 1);
  assert.ok(errors.length >= 3);
  for (const error of errors) assert.deepEqual([error.status, error.fromServer], ['UNAVAILABLE', false]);
});

test('a proxy that finds no server is waited for; one that forbids every way ends the subscription', patience, async (t) => {
  let status = 502;
  const server = await play(t, {
    sse: ({ answer }) => answer(status, '<h1>Bad</h1>', { 'Content-Type': 'text/html' }),
    poll: ({ answer }) => answer(status, '<h1>Bad</h1>', { 'Content-Type': 'text/html' }),
  });
  const { subscription, errors } = follow(new Client(server.url));
  const timer = setInterval(() => { status = errors.length < 2 ? 502 : 403; }, 1);
  t.after(() => clearInterval(timer));
  await assert.rejects(take(subscription, 1), { name: 'PostbusError', status: 'PERMISSION_DENIED', fromServer: false });
  assert.equal(errors[0].status, 'UNAVAILABLE');
});

test('a page in the place of a server is said to be one', patience, async (t) => {
  const server = await play(t, { poll: ({ answer }) => answer(200, '<h1>Welcome</h1>', { 'Content-Type': 'text/html' }) });
  const { subscription, errors } = follow(new Client(server.url, { transports: ['poll'] }));
  const timer = setInterval(() => errors.length > 0 && subscription.close(), 1);
  t.after(() => clearInterval(timer));
  await take(subscription, 1);
  assert.match(errors[0].message, /"text\/html", not application\/json: is there a server of Postbus\?/);
});

test('an overloaded server is not asked by every transport', patience, async (t) => {
  const full = told('RESOURCE_EXHAUSTED', 8, 'TOO_MANY_READERS');
  const server = await play(t, {
    socket(socket, n) {
      socket.send(n === 1 ? { error: { ...full.error, request: '1' } } : response(1, 1));
      if (n === 1) socket.close(1013);
    },
    sse: (stream) => stream.write(position(1)),
    poll: ({ answer }) => answer(200, response(1)),
  });
  const { subscription, opened, errors } = follow(new Client(server.url), { after: 0 });
  await take(subscription, 1);
  assert.deepEqual([opened, errors.map((e) => e.reason)], [['websocket'], ['TOO_MANY_READERS']]);
  assert.deepEqual([server.calls.socket, server.calls.sse, server.calls.poll], [2, 0, 0]);
});

test('headers leave the WebSocket out, and a function gives them anew', patience, async (t) => {
  let tokens = 0;
  const server = await play(t, {
    socket: (socket) => socket.send(response(1, 1)),
    sse(stream, n) {
      stream.write(event(n));
      stream.end();
    },
  });
  const bus = new Client(`${server.url}/`, { headers: async () => ({ Authorization: `Bearer ${++tokens}` }) });
  await take(bus.subscribe(['a'], { after: 0 }), 2);
  assert.equal(server.calls.socket, 0);
  assert.deepEqual(server.requests.map((r) => r.headers.authorization), ['Bearer 1', 'Bearer 2']);
});

test('a poll that was cut is followed by shorter ones for five minutes', () => {
  let now = 0;
  const choice = new Choice(['poll'], () => now);
  choice.pollCut(999); // refused at once: nothing is learned
  assert.equal(choice.pollTimeout(), 25_000);
  choice.pollCut(10_000);
  assert.equal(choice.pollTimeout(), 5000);
  choice.pollCut(1200);
  assert.equal(choice.pollTimeout(), 1000);
  now = 5 * 60_000;
  assert.equal(choice.pollTimeout(), 25_000);
});
