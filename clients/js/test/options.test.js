import assert from 'node:assert/strict';
import test from 'node:test';
import { Client } from '../src/index.js';
import { event, patience, play, response, take } from './support/script.js';

const here = 'http://127.0.0.1:1';

/** Takes the WebSocket from the engine, as Node 20 has none. */
function withoutWebSocket(t) {
  const engines = globalThis.WebSocket;
  delete globalThis.WebSocket;
  t.after(() => {
    globalThis.WebSocket = engines;
  });
}

test('an engine without WebSocket reads by SSE, and says so when nothing else is allowed', patience, async (t) => {
  withoutWebSocket(t);
  const server = await play(t, { socket: (socket) => socket.send(response(1, 1)), sse: (stream) => stream.write(event(1)) });
  await take(new Client(server.url).subscribe(['a'], { after: 0 }), 1);
  assert.deepEqual([server.calls.socket, server.calls.sse], [0, 1]);
  assert.throws(() => new Client(here, { transports: ['websocket'] }), /^TypeError: transports: only websocket, which this engine has not/);
});

test('what an option is not is told at once', () => {
  for (const [make, message] of [
    [() => new Client(), /^TypeError: url: undefined, must be a string or a URL$/],
    [() => new Client('/bus'), /^TypeError: url: "\/bus", must be a URL, and absolute where there is no page$/],
    [() => new Client('ftp://a'), /^TypeError: url: ftp:\/\/a\/, must be http: or https:$/],
    [() => new Client('http://a:b@c'), /^TypeError: url: has a user or a password/],
    [() => new Client(here, { headers: { 'a b': 'c' } }), TypeError],
    [() => new Client(here, { headers: {}, transports: ['websocket'] }), /^TypeError: transports: only websocket, which cannot carry the option headers$/],
    [() => new Client(here, { transports: [] }), /^TypeError: transports: empty/],
    [() => new Client(here, { transports: ['grpc'] }), /^TypeError: transports: "grpc"/],
    [() => new Client(here).subscribe(['a'], { after: 7n }), /^TypeError: after: 7, must be/],
    [() => new Client(here).subscribe('a'), /^TypeError: channels/],
  ]) assert.throws(make, message);
});

test('headers of a message that would be lost on the way are refused', async () => {
  for (const headers of [new Headers({ a: 'b' }), new Map([['a', 'b']])]) {
    await assert.rejects(new Client(here).send([{ channel: 'a', headers }]), /^TypeError: messages\[0\]\.headers: must be an object of strings$/);
  }
});

test('an answer to a send that is of another form is an error of the client\'s', patience, async (t) => {
  const server = await play(t, { send: ({ answer }, n) => answer(200, { results: [[null], [{}], [{ id: '1' }]][n - 1] }) });
  for (let i = 0; i < 3; i++) {
    await assert.rejects(new Client(server.url, { sendTries: 1 }).send([{ channel: 'a' }]), { name: 'PostbusError', status: 'UNKNOWN', outcomeUnknown: true });
  }
});

test('headers that never come are not waited for without end', patience, async (t) => {
  const server = await play(t, { send: () => {}, sse: () => {} });
  const bus = new Client(server.url, { headers: () => new Promise(() => {}), openTimeout: 100, sendTimeout: 100, sendTries: 1 });
  await assert.rejects(bus.send([{ channel: 'a' }]), { status: 'DEADLINE_EXCEEDED' });
  const controller = new AbortController();
  const polling = bus.poll(['a'], { signal: controller.signal });
  controller.abort(new Error('enough'));
  await assert.rejects(polling, /^Error: enough$/);
  const errors = [];
  const subscription = bus.subscribe(['a'], { onState: (s) => s.error && errors.push(s.error) && subscription.close() });
  await take(subscription, 1);
  assert.equal(errors[0].status, 'DEADLINE_EXCEEDED');
});

test('headers that fail say so', async () => {
  const bus = new Client(here, { headers: () => { throw new Error('no token'); }, sendTries: 1 });
  await assert.rejects(bus.send([{ channel: 'a' }]), { status: 'UNAVAILABLE', message: 'the option headers gave none: no token' });
});

test('a signal that outlives what it was given to has no listener of it left', patience, async (t) => {
  const server = await play(t, {
    send: ({ answer }) => answer(200, { results: [{ id: 1, duplicate: false }] }),
    poll: ({ answer }) => answer(200, response(1, 1)),
    sse: (stream) => stream.write(event(1)),
    socket: (socket) => socket.send(response(1, 1)),
  });
  const { signal } = new AbortController();
  const listeners = new Set();
  const [add, remove] = [signal.addEventListener, signal.removeEventListener];
  signal.addEventListener = (type, listener, ...more) => {
    listeners.add(listener);
    add.call(signal, type, listener, ...more);
  };
  signal.removeEventListener = (type, listener, ...more) => {
    listeners.delete(listener);
    remove.call(signal, type, listener, ...more);
  };
  for (const transport of ['websocket', 'sse', 'poll']) {
    const bus = new Client(server.url, { transports: [transport] });
    bus.subscribe(['a'], { signal }); // never read
    const subscription = bus.subscribe(['a'], { signal, after: 0 });
    for await (const e of subscription) {
      assert.ok(e && listeners.size > 0);
      break;
    }
    await bus.poll(['a'], { signal });
    await bus.send([{ channel: 'a' }], { signal });
    assert.equal(listeners.size, 0, transport);
  }
});

test('a WebSocket that is closed while it opens may say so later, as that of the package ws does', patience, async () => {
  const unheard = [];
  class Slow {
    close() {
      setTimeout(() => (this.onerror ? this.onerror({}) : unheard.push('error')), 1);
    }
  }
  const subscription = new Client(here, { WebSocket: Slow, transports: ['websocket'] }).subscribe(['a']);
  const reading = take(subscription, 1);
  await new Promise((resolve) => setTimeout(resolve, 20));
  subscription.close();
  await reading;
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual(unheard, []);
});
