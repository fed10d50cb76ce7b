import assert from 'node:assert/strict';
import test from 'node:test';
import { Client, PostbusError } from '../src/index.js';
import { Delay } from '../src/time.js';
import { event, fault, notification, patience, play, position, response, take, told } from './support/script.js';

const ids = (events) => events.map((e) => e.notification?.id);

/** Breaks a stream in the manner of its number. */
function breakOff(how, stream, server) {
  if (how === 0) server.cutAll();
  if (how === 1) stream.end();
  if (how === 2) stream.write(fault(told('UNAVAILABLE', 14, 'DRAINING'), 1));
  if (how === 3) stream.write('data: {"id":\n\n'); // garbage
}

for (const transport of ['sse', 'websocket', 'poll']) {
  test(`${transport}: resumes without loss or repetition`, patience, async (t) => {
    const [first, newest] = [11, 310];
    // What follows after the cursor, with a few repeated that the reader has; it may not show.
    const upTo = (after) => {
      const next = Math.max(first, (after ?? first - 1) + 1 - Math.floor(Math.random() * 4));
      const end = Math.min(newest, next + 12);
      return Array.from({ length: end - next + 1 }, (_, i) => next + i);
    };
    const server = await play(t, {
      sse(stream, n, { after }) {
        const more = upTo(after);
        stream.write(position(after ?? first - 1));
        more.forEach((id) => stream.write(event(id)));
        if (more.at(-1) < newest) setImmediate(breakOff, n % 4, stream, server);
      },
      socket(socket, n, { subscribe: { after } }) {
        socket.send(response(after ?? first - 1));
        socket.send({ ack: { request: '1', last: after ?? first - 1 } });
        const more = upTo(after);
        socket.send(response(more.at(-1), ...more));
        if (more.at(-1) === newest) return;
        if (n % 4 === 0) socket.cut();
        if (n % 4 === 1) socket.close(1012);
        if (n % 4 === 2) socket.send(told('UNAVAILABLE', 14, 'DRAINING'));
        if (n % 4 === 3) socket.send('{"notifications":[');
      },
      poll({ answer, cut }, n, { after }) {
        if (n % 7 === 3) return cut();
        if (n % 7 === 5) return answer(503, told('UNAVAILABLE', 14, 'DRAINING'));
        const more = upTo(after);
        return answer(200, response(more.at(-1), ...more));
      },
    });
    const states = [];
    const subscription = new Client(server.url, { transports: [transport] }).subscribe(['a'], { onState: (s) => states.push(s.state) });
    assert.equal(subscription.last, undefined);
    const events = await take(subscription, newest - first + 1);
    assert.deepEqual(ids(events), Array.from({ length: newest - first + 1 }, (_, i) => first + i));
    for (const e of events) assert.equal(e.last, e.notification.payload);
    assert.ok(states.includes('waiting'));
    assert.equal(states.at(-1), 'closed');
    assert.equal(subscription.last, newest);
    assert.equal(subscription.transport, undefined);
  });

  test(`${transport}: a gap comes in its place and may move the cursor back`, patience, async (t) => {
    const gap = { reason: 'REASON_AHEAD', after: 7, until: 7 };
    const server = await play(t, {
      sse: (stream) => stream.write(`event: gap\nid: 7\ndata: ${JSON.stringify(gap)}\n\n${position(7)}${event(8)}`),
      socket: (socket) => socket.send({ ...response(8, 8), gap }),
      poll: ({ answer }) => answer(200, { ...response(8, 8), gap }),
    });
    const subscription = new Client(server.url, { transports: [transport] }).subscribe(['a'], { after: '900' });
    const [lost] = await take(subscription, 1);
    assert.deepEqual(lost, { gap, last: 7 });
    assert.equal(subscription.last, 7);
    const [lostAgain, next] = await take(subscription, 2);
    assert.deepEqual([lostAgain.gap, next.notification.id], [gap, 8]);
  });

  test(`${transport}: a refusal that nothing cures ends the subscription`, patience, async (t) => {
    const refusal = told('INVALID_ARGUMENT', 3, 'INVALID_FIELD');
    const server = await play(t, {
      sse: ({ answer }) => answer(400, refusal),
      socket: (socket) => {
        socket.send({ error: { ...refusal.error, request: '1' } });
        socket.close(1008);
      },
      poll: ({ answer }) => answer(400, refusal),
    });
    const states = [];
    const subscription = new Client(server.url, { transports: [transport] }).subscribe(['a'], { onState: (s) => states.push(s) });
    const error = await take(subscription, 1).catch((e) => e);
    assert.ok(error instanceof PostbusError);
    assert.deepEqual([error.code, error.status, error.reason, error.fromServer], [3, 'INVALID_ARGUMENT', 'INVALID_FIELD', true]);
    assert.deepEqual(states.map((s) => s.state), ['connecting', 'closed']);
    assert.equal(states[1].error, error);
    assert.equal(server.calls.sse + server.calls.socket + server.calls.poll, 1);
  });

  test(`${transport}: what is not known is passed over`, patience, async (t) => {
    const odd = { ...notification(5), priority: 3 };
    const server = await play(t, {
      sse: (stream) => stream.write(`event: weather\ndata: sunny\n\n: a comment\n\n${position(4)}data: ${JSON.stringify(odd)}\ncolour: red\n\n`),
      socket: (socket) => {
        socket.send({ weather: 'sunny' });
        socket.binary([1, 2]);
        socket.send('null');
        socket.send({ notifications: [odd], last: 5, load: 0.5, gap: { reason: 'REASON_MOON', after: 1, until: 4, why: '' } });
      },
      poll: ({ answer }) => answer(200, { notifications: [odd], last: 5, load: 0.5 }),
    });
    const events = await take(new Client(server.url, { transports: [transport] }).subscribe(['a'], { after: 1 }), transport === 'websocket' ? 2 : 1);
    if (transport === 'websocket') assert.deepEqual(events[0].gap, { reason: 'REASON_MOON', after: 1, until: 4 });
    assert.deepEqual(events.at(-1).notification, {
      id: 5, channel: 'a', type: '', payload: 5, headers: {}, sentAt: new Date('2026-01-02T03:04:05.678Z'),
    });
  });

  test(`${transport}: close and abort end a loop that waits, without an error`, patience, async (t) => {
    const server = await play(t, {
      sse: (stream) => stream.write(position(3)),
      socket: (socket) => socket.send(response(3)),
      poll: ({ answer }, n) => n === 1 && answer(200, response(3)),
    });
    const bus = new Client(server.url, { transports: [transport] });
    const controller = new AbortController();
    for (const [options, end] of [[{}, (s) => s.close()], [{ signal: controller.signal }, () => controller.abort()]]) {
      server.calls.poll = 0;
      const subscription = bus.subscribe(['a'], { ...options, positions: true });
      const events = [];
      for await (const e of subscription) {
        events.push(e);
        setTimeout(end, 1, subscription);
      }
      assert.deepEqual(events, [{ last: 3 }]);
      assert.deepEqual(await take(subscription, 1), []); // and it stays ended
    }
  });
}

for (const transport of ['sse', 'websocket']) {
  test(`${transport}: what is silent is replaced`, patience, async (t) => {
    const server = await play(t, {
      sse: (stream, n) => stream.write(n === 1 ? position(3) : event(4)),
      socket: (socket, n) => socket.send(n === 1 ? response(3) : response(4, 4)),
    });
    const states = [];
    const subscription = new Client(server.url, { transports: [transport] })
      .subscribe(['a'], { heartbeat: 1000, onState: (s) => states.push(s) });
    assert.deepEqual(ids(await take(subscription, 1)), [4]);
    const why = states.find((s) => s.state === 'waiting').error;
    assert.equal(why.status, 'DEADLINE_EXCEEDED');
    assert.match(why.message, /^nothing on the .* for 2500 ms$/);
  });

  test(`${transport}: a reader that takes its time is not taken for silence`, patience, async (t) => {
    const server = await play(t, {
      async sse(stream) {
        stream.write(event(1));
        for (let beat = 0; beat < 8; beat++) { // heartbeats go on
          await new Promise((resolve) => setTimeout(resolve, 500));
          stream.write(position(1));
        }
        stream.write(event(2));
      },
      async socket(socket) {
        socket.send(response(1, 1));
        for (let beat = 0; beat < 8; beat++) {
          await new Promise((resolve) => setTimeout(resolve, 500));
          socket.send(response(1));
        }
        socket.send(response(2, 2));
      },
    });
    const bus = new Client(server.url, { transports: [transport], openTimeout: 1000 });
    for await (const { last } of bus.subscribe(['a'], { heartbeat: 1000, after: 0 })) {
      if (last === 2) break;
      await new Promise((resolve) => setTimeout(resolve, 3000)); // the reader's work
    }
    assert.equal(server.calls.sse + server.calls.socket, 1);
  });
}

test('from now on is the first response', patience, async (t) => {
  const asked = [];
  const server = await play(t, {
    sse(stream, n, request) {
      asked.push(request);
      stream.write(n === 1 ? position(10) : event(11));
      if (n === 1) stream.end();
    },
  });
  const errors = [];
  const onState = ({ error }) => error && errors.push(error.message);
  assert.deepEqual(ids(await take(new Client(server.url, { transports: ['sse'] }).subscribe(['a'], { onState }), 1)), [11]);
  assert.deepEqual(errors, ['the server ended the stream']);
  assert.deepEqual(asked, [{ channels: ['a'] }, { channels: ['a'], after: 10 }]);
});

test('a server that asks to be left alone is, and no longer than a minute', patience, async (t) => {
  const error = told('UNAVAILABLE', 14, 'DRAINING', '0.2s');
  const server = await play(t, { sse: (stream, n) => stream.write(fault(error, [700, 3_600_000][n - 1])) });
  const waits = [];
  const subscription = new Client(server.url, { transports: ['sse'] }).subscribe(['a'], {
    onState({ state, wait, error: { reason } = {} }) {
      if (state !== 'waiting') return;
      assert.equal(reason, 'DRAINING');
      if (waits.push(wait) === 2) subscription.close();
    },
  });
  await take(subscription, 1);
  assert.ok(waits[0] >= 700 && waits[0] < 800, `${waits[0]} ms`);
  assert.ok(waits[1] >= 60_000 && waits[1] < 60_200, `${waits[1]} ms`);
});

test('pauses grow to half a minute, with jitter', () => {
  const delay = new Delay(100, 30_000);
  for (const most of [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]) {
    const wait = delay.next(50);
    assert.ok(wait >= 50 && wait <= 50 + most, `${wait} of ${most}`);
  }
  delay.reset();
  assert.ok(delay.next(0) <= 100);
  assert.ok(new Set(Array.from({ length: 20 }, () => delay.next(0))).size > 1);
});

test('an answer that always comes at once with nothing is not asked for in a frenzy', patience, async (t) => {
  const server = await play(t, { poll: ({ answer }) => answer(200, response(3)) });
  const subscription = new Client(server.url, { transports: ['poll'] }).subscribe(['a']);
  setTimeout(() => subscription.close(), 2000);
  await take(subscription, 1);
  assert.ok(server.calls.poll <= 6, `${server.calls.poll} polls in two seconds`);
});

test('a loop that breaks off goes on behind its last event, and there is one loop at a time', patience, async (t) => {
  const server = await play(t, { socket: (socket, _, { subscribe: { after } }) => {
    const more = Array.from({ length: 9 - after }, (_, i) => after + 1 + i);
    socket.send(response(9, ...more)); // all in one response
  } });
  const subscription = new Client(server.url).subscribe(['a'], { after: 0 });
  const got = [];
  for (let i = 0; i < 3; i++) {
    got.push(...ids(await take(subscription, 3)));
    assert.equal(subscription.last, got.at(-1));
  }
  assert.deepEqual(got, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
  const waiting = take(subscription, 1);
  await assert.rejects(take(subscription, 1), /one loop at a time/);
  subscription.close();
  assert.deepEqual(await waiting, []);
});

test('a loop that is closed within a response gets no more of it', patience, async (t) => {
  const server = await play(t, { socket: (socket) => socket.send(response(3, 1, 2, 3)) });
  const bus = new Client(server.url);
  const got = [];
  const subscription = bus.subscribe(['a'], { after: 0 });
  for await (const { last } of subscription) {
    got.push(last);
    subscription.close();
  }
  assert.deepEqual([got, subscription.last], [[1], 1]); // what was not taken must come again
});

test('a consumer that stalls holds bounded memory, and gets everything', patience, async (t) => {
  const [count, size] = [200, 200_000];
  const payload = 'x'.repeat(size);
  let written = 0;
  const flood = async (stream, after, give) => {
    let gone = false;
    stream.closed.then(() => { gone = true; });
    for (let id = after + 1; id <= count && !gone; id++) {
      written++;
      if (!give(id)) await stream.drained();
    }
  };
  const server = await play(t, {
    sse: (stream, _, { after }) => flood(stream, after, (id) => stream.write(event(id, payload))),
    socket: (socket, _, { subscribe: { after } }) => flood(socket, after,
      (id) => socket.send({ notifications: [notification(id, payload)], last: id })),
  });
  for (const transport of ['websocket', 'sse']) {
    const opened = server.calls.socket;
    written = 0;
    const got = [];
    const onState = ({ state, error }) => assert.notEqual(state, 'waiting', `to be behind is no fault: ${error}`);
    const subscription = new Client(server.url, { transports: [transport] }).subscribe(['a'], { after: 0, onState });
    for await (const { notification: { id, payload: { length } } } of subscription) {
      got.push(id);
      assert.equal(length, size);
      if (got.length === 1) { // until nothing more is taken, by the client or by what lies between
        for (let before = -1; before !== written;) {
          before = written;
          await new Promise((resolve) => setTimeout(resolve, 500));
        }
        assert.ok(written < count / 2, `${transport}: ${written} of ${count} notifications were taken from the server`);
      }
      if (id === count) break;
    }
    assert.deepEqual(got, Array.from({ length: count }, (_, i) => i + 1));
    if (transport === 'websocket') assert.ok(server.calls.socket > opened + 1, 'the socket was not resumed');
  }
});
