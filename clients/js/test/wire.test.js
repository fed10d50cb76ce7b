import assert from 'node:assert/strict';
import test from 'node:test';
import { payloadText, payloadTexts } from '../src/raw.js';
import { Client } from '../src/index.js';
import { notification, patience, play, position, take } from './support/script.js';

const tokens = ['12345678901234567890', '1.0', '-0', '1E400', '"\\u00e9\\"}]"', 'null', 'true', '[]', '{}', '[{"a":"]"},[[1 ]]]',
  '{"b":1,"a":2,"b":3,"payload":{"payload":4}}', '"\\\\"', '{"notifications":[{"payload":1}]}', `${'['.repeat(1000)}${']'.repeat(1000)}`];

test('the text of a payload is found wherever it stands', () => {
  for (const token of tokens) {
    for (const text of [`{"payload":${token}}`, ` {\n"id" : 1 , "payload"\t:\r${token}\n,"z":"payload" } `,
      `{"headers":{"payload":"no"},"payload":${token},"sent_at":""}`, `{"payload":0,"p\\u0061yload":${token}}`]) {
      JSON.parse(text);
      assert.equal(payloadText(text), token, text);
      assert.deepEqual(payloadTexts(`{"last":1,"notifications":[${text},{"binary":""} , ${text}] }`), [token, undefined, token]);
    }
  }
  assert.equal(payloadText('{"binary":"AA=="}'), undefined);
  assert.deepEqual(payloadTexts('{"notifications":[],"last":3}'), []);
  assert.deepEqual(payloadTexts('{"last":3}'), []);
});

for (const transport of ['sse', 'websocket', 'poll']) {
  test(`${transport}: as text, a payload keeps its tokens`, patience, async (t) => {
    const text = (id, token) => JSON.stringify(notification(id, '@')).replace('"@"', () => token);
    const all = tokens.map((token, i) => text(i + 1, token));
    const whole = `{"notifications":[${all}],"last":${all.length}}`;
    const server = await play(t, {
      sse: (stream) => stream.write(position(0) + all.map((a) => `data: ${a}\n\n`).join('')),
      socket: (socket) => socket.send(whole),
      poll: ({ answer }) => answer(200, whole),
    });
    const bus = new Client(server.url, { payloads: 'text', transports: [transport] });
    const got = await take(bus.subscribe(['a'], { after: 0 }), all.length);
    assert.deepEqual(got.map(({ notification: { json, payload } }) => [json, payload]), tokens.map((token) => [token, undefined]));
  });
}

test('bytes arrive as bytes', patience, async (t) => {
  const bytes = Uint8Array.from({ length: 70_000 }, (_, i) => (i * 7) % 256);
  const { payload: _, ...rest } = notification(1);
  const server = await play(t, {
    send: ({ answer }, n, { messages }) => answer(200, { results: messages.map(() => ({ id: 1, duplicate: false })), sent: n }),
    poll: ({ answer }) => answer(200, { notifications: [{ ...rest, binary: Buffer.from(bytes).toString('base64') }, { ...rest, binary: '' }], last: 1 }),
  });
  for (const payloads of ['parsed', 'text']) {
    const bus = new Client(server.url, { payloads });
    const { notifications: [full, empty] } = await bus.poll(['a']);
    assert.deepEqual([full.binary, full.payload, full.json], [bytes, undefined, undefined]);
    assert.deepEqual(empty.binary, new Uint8Array());
  }
  const bus = new Client(server.url);
  const page = new Uint16Array(bytes.buffer, 2, 3);
  await bus.send([{ channel: 'a', binary: bytes }, { channel: 'a', binary: page }, { channel: 'a', binary: bytes.buffer }]);
  const { messages } = JSON.parse(server.requests.at(-1).text);
  assert.deepEqual(messages.map((m) => Buffer.from(m.binary, 'base64')), [bytes, bytes.slice(2, 8), bytes].map((b) => Buffer.from(b)));
});

test('a message goes out as the wire has it', patience, async (t) => {
  const server = await play(t, { send: ({ answer }, _, { messages }) => answer(200, { results: messages.map((m, i) => ({ id: i + 1, duplicate: false })) }) });
  const bus = new Client(server.url);
  const receipts = await bus.send([
    { channel: 'a' },
    { channel: 'a', payload: { x: [1, 'ü'] }, type: 't', headers: { h: 'v' }, ttl: 1500, key: 'k' },
    { channel: 'a', json: ' 12345678901234567890 ' },
    { channel: 'a', payload: null, ttl: 0.001, colour: 'red' },
  ]);
  assert.deepEqual(receipts, [1, 2, 3, 4].map((id) => ({ id, duplicate: false })));
  assert.equal(server.requests[0].text, '{"messages":[{"channel":"a"},'
    + '{"channel":"a","type":"t","headers":{"h":"v"},"key":"k","ttl":"1.500000s","payload":{"x":[1,"ü"]}},'
    + '{"channel":"a","payload": 12345678901234567890 },{"channel":"a","colour":"red","ttl":"0.000001s","payload":null}]}');
});

test('what no JSON says is refused by name before anything is sent', patience, async (t) => {
  const server = await play(t, {});
  const bus = new Client(server.url);
  const loop = {};
  loop.loop = loop;
  for (const [message, want] of [
    [{ channel: 'a', payload: () => 1 }, /^messages\[1\]\.payload: a function has no JSON form$/],
    [{ channel: 'a', payload: 1n }, /^messages\[1\]\.payload: .*BigInt/],
    [{ channel: 'a', payload: loop }, /^messages\[1\]\.payload: .*circular/],
    [{ channel: 'a', json: '1,"key":"x"' }, /^messages\[1\]\.json: not a JSON text$/],
    [{ channel: 'a', json: '1', payload: 2 }, /^messages\[1\]: payload and json exclude each other$/],
    [{ channel: 'a', binary: 'AA==' }, /^messages\[1\]\.binary: must be a Uint8Array/],
    [{ channel: 'a', ttl: '1h' }, /^messages\[1\]\.ttl: 1h, must be milliseconds/],
    [{ channel: 'a', ttl: Number.NaN }, /^messages\[1\]\.ttl: NaN/],
    [null, /^messages\[1\]: must be an object$/],
  ]) {
    await assert.rejects(bus.send([{ channel: 'a' }, message]), { name: 'TypeError', message: want });
  }
  await assert.rejects(bus.send({ channel: 'a' }), /^TypeError: messages: must be an array$/);
  await assert.rejects(bus.poll('a'), /^TypeError: channels: must be an array of strings$/);
  await assert.rejects(bus.poll(['a'], { timeout: -1 }), /^TypeError: timeout: -1, must be milliseconds/);
  await assert.rejects(bus.poll(['a'], { timeot: 1 }), /^TypeError: option "timeot" is not known, known are after, timeout, max, signal$/);
  for (const after of [-1, 1.5, 2 ** 53, '', 'x', '-1', {}, true]) {
    assert.throws(() => bus.subscribe(['a'], { after }), /^TypeError: after: .*, must be a whole number from 0 to 2\^53-1$/);
  }
  assert.throws(() => bus.subscribe(['a', 7]), /^TypeError: channels/);
  assert.throws(() => new Client('ftp://example.com'), /^TypeError: url: .*must be http: or https:$/);
  assert.throws(() => new Client('/bus'), /^TypeError/); // relative to nothing
  assert.throws(() => new Client(server.url, { transports: ['carrier pigeon'] }), /^TypeError: transports: "carrier pigeon"/);
  assert.throws(() => new Client(server.url, { transports: [] }), /^TypeError: transports: empty/);
  assert.throws(() => new Client(server.url, { transports: ['websocket'], headers: {} }), /^TypeError: transports: only websocket, which cannot carry the option headers/);
  assert.throws(() => new Client(server.url, { sendTries: 0 }), /^TypeError: sendTries: 0, must be a whole number from 1 to 100$/);
  assert.throws(() => new Client(server.url, { payloads: 'xml' }), /^TypeError: payloads: "xml"/);
  assert.equal(server.requests.length, 0);
});

test('a path in the URL is kept', patience, async (t) => {
  const paths = [];
  const bus = new Client('https://app.example.com/bus?x=1', { fetch: async (url) => {
    paths.push(url);
    return Response.json({ notifications: [], last: 1 });
  } });
  await bus.poll(['a']);
  assert.deepEqual(paths, ['https://app.example.com/bus/v1/poll']);
});

test('an answer that is not of the form is an error, whatever it is', patience, async (t) => {
  const answers = ['', 'null', '[]', '{}', '{"notifications":{},"last":1}', '{"notifications":[null],"last":1}', '{"notifications":[{}],"last":1}',
    '{"notifications":[{"id":"7"}],"last":1}', '{"notifications":[],"last":-1}', '{"notifications":[],"last":9007199254740993}',
    '{"notifications":[{"id":1,"channel":"a","binary":"*"}],"last":1}', '{"notifications":[],"last":1,"gap":{}}', '{"notifications":['];
  const server = await play(t, { poll: ({ answer }, n) => answer(200, answers[n - 1]), send: ({ answer }, n) => answer(200, answers[n - 1]) });
  const bus = new Client(server.url, { sendTries: 1 });
  for (const [i, answer] of answers.entries()) {
    await assert.rejects(bus.poll(['a']), { name: 'PostbusError', status: 'UNKNOWN', code: 2, fromServer: false }, answer);
    if (i < 4) await assert.rejects(bus.send([{ channel: 'a' }]), { name: 'PostbusError', status: 'UNKNOWN', outcomeUnknown: true }, answer);
  }
});
