import assert from 'node:assert/strict';
import test from 'node:test';
import { Client, newKey, PostbusError } from '../src/index.js';
import { patience, play, told } from './support/script.js';

const stored = (messages) => ({ results: messages.map((_, i) => ({ id: i + 1, duplicate: false })) });
const plain = [{ channel: 'a', payload: 1 }];
const keyed = [{ channel: 'a', payload: 1, key: newKey() }];

test('what certainly stored nothing is sent again, without a key too', patience, async (t) => {
  const server = await play(t, { send({ answer }, n, { messages }) {
    if (n === 1) return answer(503, told('UNAVAILABLE', 14, 'DRAINING'));
    if (n === 2) return answer(429, told('RESOURCE_EXHAUSTED', 8, 'SEND_QUEUE_FULL'));
    return answer(200, stored(messages));
  } });
  assert.deepEqual(await new Client(server.url).send(plain), [{ id: 1, duplicate: false }]);
  assert.equal(server.calls.send, 3);
});

/** Ways to learn nothing of a send. */
const unknowns = {
  'a cut connection': ({ cut }) => cut(),
  'a proxy without a server': ({ answer }) => answer(502, '<h1>Bad gateway</h1>', { 'Content-Type': 'text/html' }),
  'a proxy\'s own 503': ({ answer }) => answer(503, '{"error":"no"}'),
  'an unknown outcome': ({ answer }) => answer(500, told('UNKNOWN', 2, 'OUTCOME_UNKNOWN')),
  'an answer that breaks off': ({ answer, cut }) => {
    answer(200, '{"results":[', { 'Content-Length': '100' });
    setTimeout(cut, 10);
  },
  'no answer in time': () => {},
};
for (const [name, lose] of Object.entries(unknowns)) {
  test(`${name}: sent again with keys, and not without`, patience, async (t) => {
    const server = await play(t, { send: (call, n, { messages }) => (n % 2 === 1 ? lose(call) : call.answer(200, stored(messages))) });
    const bus = new Client(server.url, { sendTimeout: 500 });
    assert.deepEqual(await bus.send(keyed), [{ id: 1, duplicate: false }]);
    assert.equal(server.calls.send, 2);
    await assert.rejects(bus.send(plain), (error) => error instanceof PostbusError && error.outcomeUnknown);
    await assert.rejects(bus.send([...keyed, ...plain]).then(() => bus.send([...keyed, ...plain])), { outcomeUnknown: true });
    assert.equal(server.calls.send, 5); // the fourth was answered
  });
}

test('a refusal is not sent again, and says what it says', patience, async (t) => {
  const refusal = told('INVALID_ARGUMENT', 3, 'INVALID_FIELD');
  refusal.error.message = 'messages[0].channel: 300 bytes, at most 255';
  const server = await play(t, { send: ({ answer }) => answer(400, refusal) });
  await assert.rejects(new Client(server.url).send(keyed), {
    name: 'PostbusError', code: 3, status: 'INVALID_ARGUMENT', reason: 'INVALID_FIELD', fromServer: true, outcomeUnknown: false,
    message: refusal.error.message, details: refusal.error.details,
  });
  assert.equal(server.calls.send, 1);
});

test('what a proxy finds too large is not sent again', patience, async (t) => {
  const server = await play(t, { send: ({ answer }) => answer(413, '<h1>Too large</h1>', { 'Content-Type': 'text/html' }) });
  await assert.rejects(new Client(server.url).send(keyed), { status: 'INVALID_ARGUMENT', fromServer: false, outcomeUnknown: false });
  assert.equal(server.calls.send, 1);
});

test('a refusal after an unknown try leaves the outcome unknown', patience, async (t) => {
  const server = await play(t, { send: ({ answer, cut }, n) => (n === 1 ? cut() : answer(400, told('INVALID_ARGUMENT', 3, 'INVALID_FIELD'))) });
  await assert.rejects(new Client(server.url).send(keyed), { status: 'INVALID_ARGUMENT', outcomeUnknown: true });
});

test('tries are bounded, and the pause is what the server asks for', patience, async (t) => {
  const times = [];
  const server = await play(t, { send({ answer }, n) {
    times.push(performance.now());
    return answer(503, told('UNAVAILABLE', 14, 'DATABASE_UNAVAILABLE', n === 1 ? '0.3s' : undefined), n === 2 ? { 'Retry-After': '1' } : {});
  } });
  await assert.rejects(new Client(server.url, { sendTries: 3 }).send(plain), { reason: 'DATABASE_UNAVAILABLE', outcomeUnknown: false });
  assert.equal(times.length, 3);
  assert.ok(times[1] - times[0] >= 300 && times[2] - times[1] >= 1000, String(times));
});

test('abort ends a send, a poll and their pauses with its reason', patience, async (t) => {
  const server = await play(t, {
    send: ({ answer }, n) => n > 1 && answer(503, told('UNAVAILABLE', 14, 'DRAINING', '60s')),
    poll: () => {},
  });
  const bus = new Client(server.url);
  for (const run of [(signal) => bus.send(keyed, { signal }), (signal) => bus.send(keyed, { signal }), (signal) => bus.poll(['a'], { signal })]) {
    const controller = new AbortController();
    const seen = server.requests.length;
    const running = run(controller.signal);
    const timer = setInterval(() => server.requests.length > seen && setTimeout(() => controller.abort(new Error('enough')), 50), 1);
    await assert.rejects(running, /^Error: enough$/);
    clearInterval(timer);
    const before = server.requests.length;
    await assert.rejects(run(AbortSignal.abort(new Error('at once'))), /^Error: at once$/);
    assert.equal(server.requests.length, before);
  }
});

test('a poll is tried once', patience, async (t) => {
  const server = await play(t, { poll: ({ answer }) => answer(503, told('UNAVAILABLE', 14, 'DATABASE_UNAVAILABLE', '1.5s')) });
  await assert.rejects(new Client(server.url).poll(['a'], { after: 3, timeout: 0, max: 7 }),
    { reason: 'DATABASE_UNAVAILABLE', retryDelay: 1500, fromServer: true });
  assert.deepEqual(server.requests.map((r) => r.text), ['{"channels":["a"],"after":3,"max":7,"timeout":"0.000000s"}']);
});

test('keys are fresh', () => {
  const keys = new Set(Array.from({ length: 1000 }, newKey));
  assert.equal(keys.size, 1000);
  for (const key of keys) assert.match(key, /^[0-9a-f]{32}$/);
});
