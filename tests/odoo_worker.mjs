// The socket of Odoo 17's bus worker, as it is documented: it subscribes 300 ms after it is
// open or its channels change, with the id of the last notification that it was given, and
// comes back after a second that grows by half each time, with jitter. Prints each notification
// on a line. Channels to add come on stdin, a line each.
//
//   node --experimental-websocket odoo_worker.mjs URL VERSION CHANNEL...
import { createInterface } from 'node:readline';

const [url, version, ...first] = process.argv.slice(2);
const channels = new Set(first);
const INITIAL_DELAY = 1_000, MAXIMUM_DELAY = 60_000, JITTER = 1_000, DEBOUNCE = 300;

let socket;
let lastNotificationId = 0;
let delay = INITIAL_DELAY;
let debounce;
let active = true;

function fail(why) {
  console.log(JSON.stringify({ fault: why }));
  process.exit(1);
}

function start() {
  // A browser sends the origin and the agent by itself.
  socket = new WebSocket(`${url}/websocket?version=${version}`,
    { headers: { Origin: 'https://shop.example', 'User-Agent': 'Mozilla/5.0' } });
  socket.addEventListener('open', () => { delay = INITIAL_DELAY; subscribe(); });
  socket.addEventListener('message', ({ data }) => {
    const notifications = JSON.parse(data);
    if (!Array.isArray(notifications) || notifications.length === 0) fail(`a frame without notifications: ${data}`);
    for (const { id, message: { type, payload } } of notifications) {
      console.log(JSON.stringify({ id, type, payload }));
    }
    lastNotificationId = notifications[notifications.length - 1].id;
  });
  socket.addEventListener('close', ({ code, reason }) => {
    clearTimeout(debounce);
    if (code === 1000) {
      active = false;
      console.log(JSON.stringify({ closed: code, reason }));
      return;
    }
    console.error(`closed with ${code}`);
    if (code === 4002) delay = 0;
    setTimeout(start, delay + Math.random() * JITTER);
    delay = Math.min(Math.max(delay, INITIAL_DELAY) * 1.5, MAXIMUM_DELAY);
  });
  socket.addEventListener('error', () => {}); // close follows
}

function subscribe() {
  clearTimeout(debounce);
  debounce = setTimeout(() => {
    if (socket.readyState !== WebSocket.OPEN) return;
    socket.send(JSON.stringify({
      event_name: 'subscribe',
      data: { channels: [...channels].sort(), last: lastNotificationId },
    }));
  }, DEBOUNCE);
}

createInterface({ input: process.stdin })
  .on('line', (channel) => { channels.add(channel); if (active) subscribe(); })
  .on('close', () => process.exit(0));
start();
