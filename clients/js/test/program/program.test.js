// The client against the real program. Who runs this (tests/js_client_test.go) says at POSTBUS_CONTROL where the program listens,
// kills, stops and starts it and its database, and commits messages by SQL when asked to.
import assert from 'node:assert/strict';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, newKey } from '../../src/index.js';
import { startProxy } from '../support/proxy.js';
import { take } from '../support/script.js';

const TRANSPORTS = ['websocket', 'sse', 'poll'];
const patience = { timeout: 60_000 };

/** Asks for what happens to the program, and returns where it listens then. */
async function control(what) {
  const response = await fetch(`${process.env.POSTBUS_CONTROL}/${what}`, { method: 'POST' });
  assert.equal(response.status, 200, await response.clone().text());
  return response.text();
}

let address = await control('address');
let channels = 0;
const fresh = () => `channel ${++channels}`; // for each test its own

/** A subscription that tells what it tried and opened, and how it was broken. */
function follow(bus, channel, options = {}) {
  const tried = [];
  const opened = [];
  const errors = [];
  const subscription = bus.subscribe([channel], { heartbeat: 1000, ...options, onState: (s) => {
    if (s.state === 'connecting') tried.push(s.transport);
    if (s.state === 'open') opened.push(s.transport);
    if (s.state === 'waiting') errors.push(s.error);
  } });
  return { subscription, tried, opened, errors };
}

const send = (bus, channel, ...numbers) => bus.send(numbers.map((payload) => ({ channel, payload, key: newKey() })));
const payloads = (events) => events.map((e) => e.notification?.payload ?? e);
const upTo = (count) => Array.from({ length: count }, (_, i) => i);

/** Commits numbers by SQL, with no node in between. */
const commit = (channel, ...numbers) => control(`commit/${channel}/${numbers}`);

/** Waits until a condition holds, no longer than the test may take. */
async function until(t, holds) {
  while (!await holds()) await sleep(20, undefined, { signal: t.signal });
}

/** Whether the node gives as many: who begins from now on then is given none of them. */
async function given(channel, count) {
  const page = await new Client(`http://${address}`).poll([channel], { after: 0, timeout: 0 }).catch(() => undefined);
  return page?.notifications.length === count;
}

/** What happens to a reader. Each has more committed while nothing can reach it, so that who goes on from now on misses that. */
const disasters = {
  'a node that is killed': async ({ broken, more }) => {
    await control('kill');
    await broken();
    await more();
    address = await control('start');
  },
  'a node that is stopped': async ({ broken, more }) => {
    assert.equal(await control('stop'), '0');
    await broken();
    await more();
    address = await control('start');
  },
  'a database that is away': async ({ proxy, met, more, known }) => {
    await control('database/stop');
    try {
      proxy.cut(); // a stream that is open stays so
      await met();
      proxy.away = true; // who reads comes back later than the database
      proxy.cut();
    } finally {
      await control('database/start');
    }
    await more();
    await known();
    proxy.away = false;
  },
  'a cut network': async ({ proxy, more, known }) => {
    proxy.away = true;
    proxy.cut();
    await more();
    await known();
    proxy.away = false;
  },
};

for (const transport of TRANSPORTS) {
  for (const [name, happens] of Object.entries(disasters)) {
    test(`${transport}: everything once and in order over ${name}`, patience, async (t) => {
      const proxy = await startProxy(t, () => address);
      const bus = new Client(proxy.url, { transports: [transport], sendTries: 100 });
      const channel = fresh();
      const { subscription, opened, errors } = follow(bus, channel, { after: 0 });
      const reading = take(subscription, 60);
      for (const i of upTo(25)) await send(bus, channel, i);
      await until(t, () => subscription.last > 0);
      await happens({
        proxy,
        broken: () => until(t, () => errors.length > 0),
        met: () => until(t, () => opened.length > 1 || errors.some((e) => e.reason === 'DATABASE_UNAVAILABLE')),
        more: () => commit(channel, ...upTo(10).map((i) => 25 + i)),
        known: () => until(t, () => given(channel, 35)),
      });
      for (const i of upTo(25)) await send(bus, channel, 35 + i);
      assert.deepEqual(payloads(await reading), upTo(60));
      assert.deepEqual([...new Set(opened)], [transport]);
      assert.ok(opened.length > 1, 'nothing was broken');
    });
  }

  test(`${transport}: a cursor of another database's is told as a gap, and reading goes on`, patience, async () => {
    const bus = new Client(`http://${address}`, { transports: [transport] });
    const channel = fresh();
    const { subscription } = follow(bus, channel, { after: 2 ** 52 });
    const [{ gap, last }] = await take(subscription, 1);
    assert.deepEqual([gap.reason, gap.after, gap.until], ['REASON_AHEAD', last, last]);
    await send(bus, channel, 1);
    assert.deepEqual(payloads(await take(subscription, 1)), [1]);
  });

  test(`${transport}: a refusal names the field and the limit`, patience, async () => {
    const { subscription } = follow(new Client(`http://${address}`, { transports: [transport] }), 'x'.repeat(300));
    await assert.rejects(take(subscription, 1), {
      name: 'PostbusError', status: 'INVALID_ARGUMENT', reason: 'INVALID_FIELD', fromServer: true, message: /channels\[0\]: 300 bytes, at most 255/,
    });
  });

  test(`${transport}: what is sent arrives as it was`, patience, async () => {
    const channel = fresh();
    const tokens = '{"b": 12345678901234567890,"a":[1.0,1E400,"\\u00e9"],"b":-0}';
    const messages = [
      { channel, json: tokens, type: 't', headers: { h: 'ü' }, ttl: 60_000 }, { channel, binary: Uint8Array.of(0, 255, 10, 13) }, { channel },
      { channel, payload: 'line\nend\r\u2028 𝄞' },
    ];
    await new Client(`http://${address}`).send(messages);
    const read = async (options) => (await take(new Client(`http://${address}`, { transports: [transport], ...options })
      .subscribe([channel], { after: 0 }), 4)).map((e) => e.notification);
    const texts = await read({ payloads: 'text' });
    assert.equal(texts[0].json.replaceAll(' ', ''), tokens.replaceAll(' ', ''));
    const [first, second, third, fourth] = await read({});
    assert.deepEqual([first.type, first.headers, first.payload.a[0]], ['t', { h: 'ü' }, 1]);
    assert.ok(Math.abs(first.sentAt - Date.now()) < 3_600_000);
    assert.deepEqual([second.binary, third.payload, fourth.payload], [Uint8Array.of(0, 255, 10, 13), null, 'line\nend\r\u2028 𝄞']);
  });

  test(`${transport}: a consumer that stalls takes a bounded amount, and gets everything`, patience, async (t) => {
    const proxy = await startProxy(t, () => address);
    const channel = fresh();
    const sender = new Client(`http://${address}`);
    const [count, size] = [160, 250_000];
    for (let i = 0; i < count; i += 8) {
      await sender.send(upTo(8).map((j) => ({ channel, payload: `${i + j} ${'x'.repeat(size)}`, key: newKey() })));
    }
    const got = [];
    for await (const { notification } of new Client(proxy.url, { transports: [transport] }).subscribe([channel], { after: 0 })) {
      got.push(Number.parseInt(notification.payload, 10));
      if (got.length === 1) {
        for (let before = -1; before !== proxy.passed;) {
          before = proxy.passed;
          await sleep(1000);
        }
        assert.ok(proxy.passed < count * size / 2, `${proxy.passed} bytes were taken for one notification`);
      }
      if (got.length === count) break;
    }
    assert.deepEqual(got, upTo(count));
  });

  test(`${transport}: abort ends a loop that waits`, patience, async () => {
    const controller = new AbortController();
    const { subscription } = follow(new Client(`http://${address}`, { transports: [transport] }), fresh(), {
      positions: true, signal: controller.signal,
    });
    for await (const { last } of subscription) {
      assert.equal(last, subscription.last);
      setTimeout(() => controller.abort(), 50);
    }
  });
}

test('reading goes on by another transport where one left off', patience, async () => {
  const channel = fresh();
  await send(new Client(`http://${address}`), channel, ...upTo(30));
  const got = [];
  for (let after = 0; got.length < 30;) {
    const subscription = new Client(`http://${address}`, { transports: [TRANSPORTS[(got.length / 5) % TRANSPORTS.length]] }).subscribe([channel], { after });
    got.push(...payloads(await take(subscription, 5)));
    after = String(subscription.last); // as it comes from localStorage
  }
  assert.deepEqual(got, upTo(30));
});

test('a proxy that refuses upgrades: SSE', patience, async (t) => {
  const proxy = await startProxy(t, () => address);
  proxy.refuseUpgrades = true;
  const bus = new Client(proxy.url);
  const channel = fresh();
  const { subscription, tried, opened } = follow(bus, channel, { after: 0 });
  await send(bus, channel, 0, 1);
  assert.deepEqual(payloads(await take(subscription, 2)), [0, 1]);
  await send(bus, channel, 2);
  assert.deepEqual(payloads(await take(subscription, 1)), [2]);
  assert.deepEqual([opened, tried], [['sse', 'sse'], ['websocket', 'sse', 'sse']]);
});

test('a proxy that refuses upgrades and buffers events: long-poll', patience, async (t) => {
  const proxy = await startProxy(t, () => address);
  Object.assign(proxy, { refuseUpgrades: true, holdEvents: true });
  const bus = new Client(proxy.url, { openTimeout: 1000 });
  const channel = fresh();
  const { subscription, opened } = follow(bus, channel, { after: 0 });
  const reading = take(subscription, 3);
  await send(bus, channel, 0, 1);
  await sleep(1500); // a poll waits
  await send(bus, channel, 2);
  assert.deepEqual(payloads(await reading), [0, 1, 2]);
  assert.deepEqual(opened, ['poll']);
});

test('a proxy that allows only short requests: long-polls that end in time', patience, async (t) => {
  const proxy = await startProxy(t, () => address);
  proxy.longest = 1500;
  const bus = new Client(proxy.url);
  const channel = fresh();
  const { subscription, opened, errors } = follow(bus, channel, { after: 0 });
  const count = 15;
  const reading = take(subscription, count);
  for (let i = 0; i < count; i++) {
    await send(bus, channel, i);
    await sleep(1000);
  }
  assert.deepEqual(payloads(await reading), upTo(count));
  assert.equal(opened.at(-1), 'poll');
  assert.ok(errors.length < 9, `${errors.length} breaks`); // three of each stream and one of a poll that was too long
});

test('a send with a key whose answer is lost is stored once', patience, async (t) => {
  const proxy = await startProxy(t, () => address);
  const bus = new Client(proxy.url);
  const channel = fresh();
  proxy.loseAnswers = 2;
  const [{ id, duplicate }] = await send(bus, channel, 7);
  assert.equal(duplicate, true);
  proxy.loseAnswers = 1;
  await assert.rejects(bus.send([{ channel, payload: 8 }]), { name: 'PostbusError', outcomeUnknown: true, fromServer: false });
  await send(bus, channel, 9);
  const { notifications } = await bus.poll([channel], { after: 0, timeout: 0 });
  assert.deepEqual(notifications.map((n) => n.payload), [7, 8, 9]);
  assert.equal(notifications[0].id, id);
});

test('errors are the server\'s', patience, async () => {
  const bus = new Client(`http://${address}`);
  await assert.rejects(bus.send([{ channel: 'a' }, { channel: 'x'.repeat(300) }]), {
    code: 3, status: 'INVALID_ARGUMENT', reason: 'INVALID_FIELD', message: 'messages[1].channel: 300 bytes, at most 255', outcomeUnknown: false,
  });
  await assert.rejects(bus.send([{ channel: 'a', colour: 'red' }]), { reason: 'UNKNOWN_FIELD', message: /messages\[0\]\.colour/ });
  await assert.rejects(bus.poll([]), { reason: 'INVALID_FIELD', message: /channels/ });
  await assert.rejects(bus.poll(['a'], { max: 1001 }), { reason: 'INVALID_FIELD', message: /max: 1001/ });
  await assert.rejects(new Client(`http://${address}/elsewhere`).poll(['a']), { status: 'NOT_FOUND', reason: 'NOT_FOUND' });
});
