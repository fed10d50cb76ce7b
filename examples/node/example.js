// Sends to Postbus and reads from it, and goes on where a connection broke.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';

const { values: flags } = parseArgs({ options: {
  server: { type: 'string', default: process.env.POSTBUS_SERVER ?? '127.0.0.1:8073' },
  channel: { type: 'string', default: 'example' },
  count: { type: 'string', default: '3' }, // send this many, and end after this many
} });
const proto = fileURLToPath(new URL('../../proto/postbus/v1/bus.proto', import.meta.url));
// longs: String keeps every id exact.
const { postbus } = grpc.loadPackageDefinition(protoLoader.loadSync(proto, { keepCase: true, longs: String, enums: String }));
// Keepalive ends a stream whose server vanished without a word.
const bus = new postbus.v1.BusService(flags.server, grpc.credentials.createInsecure(),
  { 'grpc.keepalive_time_ms': 30_000, 'grpc.keepalive_timeout_ms': 10_000 });
const { INVALID_ARGUMENT, UNIMPLEMENTED, PERMISSION_DENIED, UNAUTHENTICATED } = grpc.status;
const incurable = new Set([INVALID_ARGUMENT, UNIMPLEMENTED, PERMISSION_DENIED, UNAUTHENTICATED]);

// Repeats until it is known to be stored: with keys, it is stored once.
async function send(messages) {
  for (let tries = 1; ; tries++) {
    try {
      return await new Promise((resolve, reject) => bus.send({ messages }, { deadline: Date.now() + 10_000 },
        (error, response) => (error ? reject(error) : resolve(response.results))));
    } catch (error) {
      if (incurable.has(error.code) || tries === 10) throw error;
      await sleep(Math.random() * 2_000);
    }
  }
}

// Yields responses for ever; after a break it goes on behind the last one.
async function* responses(channels) {
  for (let after, bound = 200; ; bound = Math.min(2 * bound, 30_000)) { // no after: from now on
    const call = bus.subscribe({ channels, after });
    call.on('error', () => {}); // the loop throws it; this is for cancel
    try {
      for await (const response of call) {
        [after, bound] = [response.last, 200];
        yield response;
      }
    } catch (error) {
      if (incurable.has(error.code)) throw error;
      console.error('reconnecting:', error.details ?? error.message);
    } finally {
      call.cancel();
    }
    await sleep(Math.random() * bound);
  }
}

let [sent, received] = [false, 0];
for await (const { notifications = [], gap } of responses([flags.channel])) {
  if (!sent) { // the first response: from here on nothing is missed
    sent = await send(Array.from({ length: Number(flags.count) }, (_, number) => (
      { channel: flags.channel, type: 'example', json: JSON.stringify({ number }), key: randomUUID() })));
  }
  if (gap) console.log('lost:', gap.after, gap.until);
  for (const n of notifications) console.log(n.id, n.channel, n.type, n.json ?? n.binary);
  if ((received += notifications.length) >= Number(flags.count)) break;
}
bus.close();
