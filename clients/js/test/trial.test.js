import assert from 'node:assert/strict';
import test from 'node:test';
import { Choice } from '../src/choice.js';
import { broken, PostbusError } from '../src/errors.js';
import { Client } from '../src/index.js';
import { Trial } from '../src/trial.js';
import { event, patience, play, position, response, take } from './support/script.js';

/** What the first attempts of a round meet, and no later one does: a server that goes and comes back, or a proxy that has several. */
const met = {
  'a server that is away refuses the WebSocket, and has events a moment later': { websocket: 'refused' },
  'a load balancer has no node for the WebSocket, and one for the events': { websocket: 'bad gateway' },
  'a server takes the WebSocket and dies, and is back for the events': { websocket: 'cut' },
  'a server that starts says nothing on the WebSocket, and then has events': { websocket: 'silent' },
  'a load balancer has the events of a node that drains, and the poll of another': { sse: 'unavailable' },
  'a connection to the server before is cut, and the poll makes one of its own': { sse: 'cut' },
  'WebSocket and events meet a restart, and the poll does not': { websocket: 'refused', sse: 'cut' },
};

for (const [name, first] of Object.entries(met)) {
  test(`a transport is not left out for a restart: ${name}`, patience, async (t) => {
    const transports = ['websocket', 'sse', 'poll'].filter((transport) => transport in first || transport !== 'websocket');
    const [best] = transports;
    const next = (after = 0) => after + 1;
    const server = await play(t, {
      handshake(n) {
        if (n > 1) return undefined;
        return { refused: '', 'bad gateway': 'HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n' }[first.websocket];
      },
      socket(socket, n, { subscribe: { after } }) {
        if (n > 1) return socket.send(response(next(after), next(after)));
        return first.websocket === 'cut' && socket.cut();
      },
      sse(stream, n, { after }) {
        if (n === 1 && first.sse === 'cut') return stream.cut();
        if (n === 1 && first.sse) return stream.answer(503, '<h1>Service unavailable</h1>', { 'Content-Type': 'text/html' });
        // Who stays with the second best gets one event.
        return stream.write(best === 'sse' || after === 0 ? event(next(after)) : position(after ?? 0));
      },
      poll: ({ answer }, n, { after }) => n === 1 && answer(200, response(next(after), next(after))),
    });
    const opened = [];
    const subscription = new Client(server.url, { transports, openTimeout: 500 }).subscribe(['a'], {
      after: 0, heartbeat: 50_000, onState: (s) => s.state === 'open' && opened.push(s.transport),
    });
    const events = await take(subscription, 2);
    assert.deepEqual(events.map((e) => e.last), [1, 2]);
    assert.notEqual(opened[0], best);
    assert.equal(opened.at(-1), best);
  });
}

test('where WebSocket is truly blocked, what comes meanwhile is not disturbed by its trials', patience, async (t) => {
  for (const how of ['refused', 'silent']) {
    const server = await play(t, {
      handshake: () => (how === 'refused' ? '' : undefined),
      socket() {},
      sse(stream) {
        let id = 0;
        const timer = setInterval(() => stream.write(event(++id)), 20);
        stream.closed.then(() => clearInterval(timer));
      },
    });
    const opened = [];
    const subscription = new Client(server.url, { openTimeout: 300 }).subscribe(['a'], {
      after: 0, onState: (s) => s.state === 'open' && opened.push(s.transport),
    });
    let last = 0;
    for await (const { notification: { id } } of subscription) {
      assert.equal(id, ++last);
      if (server.calls.socket === 2 && last > 150) break;
    }
    assert.deepEqual([opened, server.calls.sse], [['sse'], 1]);
  }
});

test('a loop that ends leaves no trial behind', patience, async (t) => {
  let closed;
  const server = await play(t, {
    handshake: (n) => (n === 1 ? '' : undefined),
    socket(socket) {
      ({ closed } = socket);
      setTimeout(() => subscription.close(), 20);
    },
    sse: (stream) => stream.write(event(1)),
  });
  const subscription = new Client(server.url, { openTimeout: 600_000 }).subscribe(['a'], { after: 0 });
  await take(subscription, 2);
  assert.equal(server.calls.socket, 2);
  await closed;
});

const minute = 60_000;

test('what is in doubt comes behind the others, and is tried when it is due and no other gets through', () => {
  let now = 0;
  const choice = new Choice(['websocket', 'sse', 'poll'], () => now);
  choice.opened('poll', ['websocket', 'sse']);
  assert.deepEqual([choice.candidates(), choice.better('poll'), choice.better('websocket')], [['poll'], false, false]);
  now = 2000;
  assert.deepEqual([choice.candidates(), choice.better('poll')], [['poll', 'websocket', 'sse'], false]);
  choice.opened('sse', ['poll']);
  assert.deepEqual([choice.candidates(), choice.better('poll')], [['sse', 'websocket'], true]); // what opens is in doubt no longer
  choice.opened('sse', ['websocket']); // it failed again, and no answer encloses that
  assert.deepEqual(choice.candidates(), ['sse']);
  now = 4000;
  assert.deepEqual(choice.candidates(), ['sse', 'websocket', 'poll']);
});

test('each blame makes the next trial later, up to an hour', () => {
  let now = 0;
  const choice = new Choice(['websocket', 'sse'], () => now);
  choice.opened('sse', ['websocket']);
  const waits = [];
  for (let i = 0; i < 9; i++) {
    const { transport, wait } = choice.nextTrial('sse', new Set());
    waits.push(wait);
    now += wait - 1;
    assert.equal(choice.begin(transport), undefined); // it is not due
    now++;
    assert.equal(choice.begin(transport), 0);
    assert.equal(choice.begin(transport), undefined); // one at a time
    assert.deepEqual(choice.candidates(), ['sse']);
    choice.end(transport, false);
    choice.blame(transport);
  }
  assert.deepEqual(waits, [2000, 8000, 32_000, 128_000, 512_000, 2_048_000, 60 * minute, 60 * minute, 60 * minute]);
  now += 60 * minute;
  choice.begin('websocket');
  choice.end('websocket', true);
  assert.deepEqual(choice.candidates(), ['websocket', 'sse']);
  choice.opened('sse', ['websocket']);
  assert.equal(choice.nextTrial('sse', new Set()).wait, 2000); // all is forgotten
});

test('streams that are cut three times in a row are in doubt until one lives; what all have in common is none\'s fault', () => {
  let now = 0;
  const choice = new Choice(['websocket', 'sse', 'poll'], () => now);
  const cut = (transport, times) => {
    for (let i = 0; i < times; i++) {
      choice.opened(transport, []);
      choice.ended(transport, 100, true);
    }
  };
  cut('websocket', 2);
  choice.ended('websocket', 30_000, true); // a good stream
  cut('websocket', 2);
  choice.ended('websocket', 100, false); // the server's own word is no cut
  assert.deepEqual(choice.candidates(), ['websocket', 'sse', 'poll']);
  cut('websocket', 1);
  assert.deepEqual(choice.candidates(), ['sse', 'poll']);
  now += 2000;
  choice.opened('websocket', []); // to open is not enough
  assert.deepEqual(choice.candidates(), ['sse', 'poll', 'websocket']);
  assert.equal(choice.begin('websocket'), 30_000);
  choice.end('websocket', false);
  cut('sse', 3);
  assert.deepEqual(choice.candidates(), ['poll']);
  cut('poll', 3); // it is the server then
  assert.deepEqual(choice.candidates(), ['websocket', 'sse', 'poll']);

  const only = new Choice(['poll']);
  for (let i = 0; i < 3; i++) only.ended('poll', 100, true);
  assert.deepEqual(only.candidates(), ['poll']);
});

/** A trial beside an open poll, whose WebSocket is in doubt. Its clock is the mocked one. */
function beside(t, doubt = (choice) => choice.opened('poll', ['websocket'])) {
  let now = 0;
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const choice = new Choice(['websocket', 'poll'], () => now);
  doubt(choice);
  const stream = new AbortController();
  const tries = [];
  const open = async function* open(transport, signal) {
    const attempt = {};
    const next = () => new Promise((resolve, reject) => {
      Object.assign(attempt, { answers: resolve, fails: reject });
    });
    const first = next();
    signal.addEventListener('abort', () => attempt.fails(signal.reason));
    tries.push(attempt);
    yield await first;
    await next();
  };
  const trial = new Trial(choice, 'poll', open, stream.signal);
  trial.waits();
  let outcome = 'runs';
  trial.run().then((better) => {
    outcome = better;
  });
  const settle = () => new Promise((resolve) => {
    setImmediate(resolve);
  });
  return {
    choice, stream, tries, trial, settle,
    get outcome() {
      return outcome;
    },
    get wait() {
      return choice.nextTrial('poll', new Set())?.wait;
    },
    async pass(ms) {
      await settle();
      now += ms;
      t.mock.timers.tick(ms);
      await settle();
    },
  };
}

const refused = () => broken('no WebSocket could be opened');

test('a failure between two answers of the stream beside it is to blame', async (t) => {
  const b = beside(t);
  await b.pass(1999);
  assert.equal(b.tries.length, 0);
  await b.pass(1);
  b.tries[0].fails(refused());
  await b.pass(20_000); // the stream is idle
  assert.equal(b.tries.length, 1); // and what it says is waited for
  b.trial.answered();
  assert.deepEqual([b.wait, b.outcome], [8000, 'runs']);
  b.trial.waits();
  await b.pass(8000);
  b.tries[1].answers();
  await b.settle();
  assert.deepEqual([b.outcome, b.choice.candidates()], [true, ['websocket', 'poll']]);
});

test('a failure with which the stream beside it ends is nobody\'s fault', async (t) => {
  const b = beside(t);
  await b.pass(2000);
  b.tries[0].fails(refused()); // the server goes away
  await b.settle();
  b.stream.abort();
  await b.settle();
  assert.deepEqual([b.wait, b.outcome], [2000, false]);
});

test('a failure while the reader is busy says nothing, since what it takes next may be old', async (t) => {
  const b = beside(t);
  await b.pass(2000);
  b.trial.answered();
  b.tries[0].fails(refused());
  await b.settle();
  b.trial.waits();
  b.trial.answered();
  assert.equal(b.wait, 2000);
  await b.pass(10_000);
  assert.equal(b.tries.length, 1); // nothing is tried while it is busy
  b.trial.waits();
  await b.settle();
  assert.equal(b.tries.length, 2);
});

test('a server that will not have another stream now is no failure, and no success', async (t) => {
  const b = beside(t);
  for (const error of [new PostbusError('RESOURCE_EXHAUSTED', 'full', { fromServer: true, reason: 'TOO_MANY_READERS' }), new TypeError('?')]) {
    await b.pass(2000);
    b.tries.at(-1).fails(error);
    await b.settle();
    b.trial.answered();
    b.trial.waits();
    assert.deepEqual([b.wait, b.outcome], [2000, 'runs']);
  }
  await b.pass(2000);
  b.tries.at(-1).fails(new PostbusError('UNIMPLEMENTED', 'no', { fromServer: true, reason: 'NOT_IMPLEMENTED' }));
  await b.settle();
  b.trial.answered();
  assert.equal(b.wait, 8000);
});

test('one that was cut again and again has to live half a minute', async (t) => {
  const b = beside(t, (choice) => {
    for (let i = 0; i < 3; i++) choice.ended('websocket', 100, true);
  });
  await b.pass(2000);
  b.tries[0].answers();
  await b.pass(29_999);
  b.tries[0].fails(refused()); // cut again
  await b.settle();
  b.trial.answered();
  b.trial.waits();
  assert.deepEqual([b.wait, b.outcome], [8000, 'runs']);
  await b.pass(8000);
  b.tries[1].answers();
  await b.pass(30_000);
  assert.deepEqual([b.outcome, b.choice.candidates()], [true, ['websocket', 'poll']]);
});

test('one subscription tries for all, and all move', async (t) => {
  const b = beside(t);
  const stream = new AbortController();
  const other = new Trial(b.choice, 'poll', () => assert.fail('a second trial at once'), stream.signal);
  other.waits();
  const moves = other.run();
  await b.pass(2000);
  b.tries[0].answers();
  await b.pass(2000);
  assert.deepEqual([b.outcome, await moves], [true, true]);
});
