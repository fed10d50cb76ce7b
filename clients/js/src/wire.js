import { malformed } from './errors.js';
import { payloadText, payloadTexts } from './raw.js';

/** @typedef {import('../index.js').Notification} Notification */
/** @typedef {import('../index.js').Gap} Gap */
/** @typedef {{ notifications: Notification[], last: number, gap?: Gap }} Answer a response of any transport */

/** @param {Uint8Array} bytes */
function toBase64(bytes) {
  let text = '';
  for (let i = 0; i < bytes.length; i += 0x2000) text += String.fromCharCode(...bytes.subarray(i, i + 0x2000));
  return btoa(text);
}

/** @param {unknown} text */
const fromBase64 = (text) => Uint8Array.from(atob(String(text)), (c) => c.charCodeAt(0));

/** The wire's form of a duration in ms. @param {unknown} ms @param {string} name */
export function seconds(ms, name) {
  if (typeof ms !== 'number' || !(ms >= 0 && ms < 1e15)) throw new TypeError(`${name}: ${String(ms)}, must be milliseconds, 0 or more`);
  return `${(ms / 1000).toFixed(6)}s`;
}

/** The number of a cursor, which may come as text from where it was kept. @param {unknown} after @returns {number | undefined} */
export function cursorOf(after) {
  if (after === undefined || after === null) return undefined;
  const id = typeof after === 'string' && /^[0-9]+$/.test(after) ? Number(after) : after;
  if (typeof id === 'number' && Number.isSafeInteger(id) && id >= 0) return id;
  throw new TypeError(`after: ${typeof after === 'string' ? JSON.stringify(after) : String(after)}, must be a whole number from 0 to 2^53-1`);
}

/** Refuses members of options that nobody reads: a typo is never dropped in silence. @param {object} options @param {string[]} names */
export function known(options, names) {
  for (const name of Object.keys(options)) {
    if (!names.includes(name)) throw new TypeError(`option ${JSON.stringify(name)} is not known, known are ${names.join(', ')}`);
  }
}

/** @param {unknown} body @param {string} at */
function bytesOf(body, at) {
  if (ArrayBuffer.isView(body)) return new Uint8Array(body.buffer, body.byteOffset, body.byteLength);
  if (body instanceof ArrayBuffer) return new Uint8Array(body);
  throw new TypeError(`${at}.binary: must be a Uint8Array, another view or an ArrayBuffer`);
}

/** The JSON text that a message's payload is. @param {any} message @param {string} at */
function bodyText(message, at) {
  if (message.json !== undefined) {
    if (message.payload !== undefined) throw new TypeError(`${at}: payload and json exclude each other`);
    try {
      JSON.parse(message.json);
    } catch (cause) {
      throw new TypeError(`${at}.json: not a JSON text`, { cause });
    }
    return String(message.json);
  }
  if (message.payload === undefined) return undefined;
  let text;
  try {
    text = JSON.stringify(message.payload);
  } catch (cause) {
    throw new TypeError(`${at}.payload: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
  if (text === undefined) throw new TypeError(`${at}.payload: a ${typeof message.payload} has no JSON form`);
  return text;
}

/**
 * The body of POST /v1/send. Members that are not known here go as they are: the server names what it does not know.
 * @param {readonly import('../index.js').Message[]} messages
 */
export function sendBody(messages) {
  if (!Array.isArray(messages)) throw new TypeError('messages: must be an array');
  const texts = messages.map((message, i) => {
    const at = `messages[${i}]`;
    if (typeof message !== 'object' || message === null) throw new TypeError(`${at}: must be an object`);
    const { payload: _payload, json: _json, binary, ttl, ...rest } = message;
    // A Headers or a Map would go as {}.
    if (rest.headers && Symbol.iterator in Object(rest.headers)) throw new TypeError(`${at}.headers: must be an object of strings`);
    if (ttl !== undefined) Object.assign(rest, { ttl: seconds(ttl, `${at}.ttl`) });
    if (binary !== undefined) Object.assign(rest, { binary: toBase64(bytesOf(binary, at)) });
    const body = bodyText(message, at);
    const text = JSON.stringify(rest);
    return body === undefined ? text : `${text.slice(0, -1)}${text === '{}' ? '' : ','}"payload":${body}}`;
  });
  return `{"messages":[${texts.join(',')}]}`;
}

/** @param {unknown} id @param {string} what */
export function idOf(id, what) {
  if (typeof id === 'number' && Number.isSafeInteger(id) && id >= 0) return id;
  throw malformed(`the server's answer: ${what} is ${JSON.stringify(id)}, not an id`);
}

/** @param {any} n parsed @param {string | undefined} json the payload's text, if that is wanted @returns {Notification} */
function notificationOf(n, json) {
  /** @type {any} */
  const notification = { id: idOf(n?.id, 'id'), channel: String(n.channel), type: String(n.type ?? '') };
  if (n.binary !== undefined) notification.binary = fromBase64(n.binary);
  else if (json !== undefined) notification.json = json;
  else notification.payload = n.payload ?? null;
  notification.headers = n.headers ?? {};
  notification.sentAt = new Date(n.sent_at);
  return notification;
}

/** @param {any} gap @returns {Gap} */
const gapOf = (gap) => ({ reason: String(gap.reason), after: idOf(gap.after, 'gap.after'), until: idOf(gap.until, 'gap.until') });

/** What JSON.parse says. @param {string} text @returns {any} */
export function parsed(text) {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw malformed('the server\'s answer is not JSON', cause);
  }
}

/** Reads what comes. Members that are not known are passed over. */
export class Reader {
  #texts;

  /** @param {boolean} texts whether payloads are wanted as text */
  constructor(texts) {
    this.#texts = texts;
  }

  /** A response: of a poll, or a frame of a WebSocket. @param {string} text @param {any} [body] text, parsed @returns {Answer} */
  response(text, body = parsed(text)) {
    const list = body?.notifications ?? [];
    if (!Array.isArray(list)) throw malformed('the server\'s answer: notifications is not a list');
    const texts = this.#texts ? payloadTexts(text) : [];
    const notifications = list.map((n, i) => this.#read(n, texts[i]));
    return { notifications, last: idOf(body?.last, 'last'), gap: body.gap ? gapOf(body.gap) : undefined };
  }

  /** A response of one notification: an event of SSE. @param {string} text @returns {Answer} */
  notification(text) {
    const n = parsed(text);
    const notification = this.#read(n, this.#texts && typeof n === 'object' ? payloadText(text) : undefined);
    return { notifications: [notification], last: notification.id };
  }

  /** A response of a gap alone: an event of SSE. @param {string} text @returns {Answer} */
  gap(text) {
    const gap = gapOf(parsed(text) ?? {});
    return { notifications: [], last: gap.until, gap };
  }

  /** @param {any} n @param {string | undefined} json */
  #read(n, json) {
    try {
      return notificationOf(n, this.#texts ? json ?? 'null' : undefined);
    } catch (cause) {
      throw cause instanceof Error && cause.name === 'PostbusError' ? cause : malformed('the server\'s answer: a notification cannot be read', cause);
    }
  }
}
