// The loop of the bus clients of Odoo 13 to 15, as it is documented, for a test: it polls the
// server at the URL that is its first argument, for the shape of the version that is the
// second, and writes each notification as a line of JSON. Its pauses are a hundredth of the
// real ones. It ends with its standard input, and writes what it has counted.
const [server, version] = [process.argv[2], Number(process.argv[3])];
const scale = 0.01;
const timeout = 60_000; // of a request; not scaled: the server's 50 s are not

let last = 0; // the highest id that was seen, whatever the order
let pending = null; // what aborts the request that is open
let ended = false;
const channels = new Set(['first']);
const counts = { polls: 0, empty: 0, failures: 0 };

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

class RequestFailed extends Error {}

async function request(signal) {
  counts.polls++;
  const response = await fetch(server + '/longpolling/poll', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({
      jsonrpc: '2.0',
      method: 'call',
      params: { channels: [...channels].sort(), last, options: { bus_inactivity: 337 } },
      id: Math.floor(Math.random() * 1e9),
    }),
    signal: AbortSignal.any([signal, AbortSignal.timeout(timeout)]),
  });
  if (!response.ok) throw new RequestFailed(`status ${response.status}`);
  const answer = await response.json();
  if (answer.error) {
    // The client looks into the arguments of every error, and would hang without them.
    void answer.error.data.arguments[0];
    throw new RequestFailed(answer.error.data.message);
  }
  return answer.result ?? [];
}

function receive(notifications) {
  if (notifications.length === 0) counts.empty++;
  for (const n of notifications) {
    last = Math.max(last, n.id);
    const payload = version >= 15 ? n.message.payload : n.message;
    process.stdout.write(JSON.stringify({ id: n.id, payload }) + '\n');
    if (payload.add) addChannel(payload.add);
  }
}

function addChannel(channel) {
  channels.add(channel);
  pending?.abort(); // the loop goes on at once, with the channel
}

async function loop() {
  while (!ended) {
    pending = new AbortController();
    const aborted = pending.signal;
    try {
      receive(await request(aborted));
    } catch (error) {
      if (aborted.aborted) continue;
      if (!(error instanceof RequestFailed || error instanceof TypeError || error.name === 'TimeoutError')) throw error;
      counts.failures++;
      await pause((10_000 + (1 + Math.floor(Math.random() * 20)) * 1_000) * scale);
    }
  }
}

process.stdin.resume();
process.stdin.on('end', () => {
  ended = true;
  pending?.abort();
});
await loop();
process.stderr.write(JSON.stringify(counts) + '\n');
