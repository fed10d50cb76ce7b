// Shows a channel as it grows, and sends to it. The page's query may say ?server=http://127.0.0.1:8072&channel=example
import { Client, newKey } from '@postbus/client';

const query = new URLSearchParams(location.search);
const channel = query.get('channel') ?? 'example';
const bus = new Client(query.get('server') ?? 'http://127.0.0.1:8072');
const element = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));

function show(/** @type {string} */ text) {
  const line = document.createElement('li');
  line.textContent = text;
  element('list').prepend(line);
}

element('send').addEventListener('submit', async (event) => {
  event.preventDefault();
  const form = /** @type {HTMLFormElement} */ (event.target);
  const text = new FormData(form).get('text');
  form.reset();
  try {
    await bus.send([{ channel, type: 'example', payload: { text }, key: newKey() }]); // with a key it may be repeated
  } catch (error) {
    show(`not sent: ${error}`);
  }
});

// The list is empty, so from the oldest that is retained. A page that keeps what it has shown would keep last with it.
const subscription = bus.subscribe([channel], {
  after: 0,
  onState(s) {
    element('state').textContent = s.state === 'open' ? `open, by ${s.transport}` : s.state === 'waiting' ? `waiting: ${s.error}` : s.state;
  },
});
try {
  for await (const { notification, gap } of subscription) {
    if (gap) show(`lost: ${gap.after} to ${gap.until}`);
    if (notification) show(`${notification.id} ${notification.type} ${JSON.stringify(notification.payload)}`);
  }
} catch (error) {
  show(`ended: ${error}`);
}
