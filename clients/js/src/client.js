import { Choice } from './choice.js';
import { curable, malformed, notStored, PostbusError } from './errors.js';
import { headersOf, Http } from './http.js';
import { POLL_MARGIN } from './poll.js';
import { Subscription } from './subscription.js';
import { Delay, pause } from './time.js';
import { cursorOf, idOf, known, parsed, Reader, seconds, sendBody } from './wire.js';

/** @typedef {import('../index.js').Transport} Transport */

/** @type {readonly Transport[]} */
const ALL = ['websocket', 'sse', 'poll'];

/** The longest that a poll waits, in ms: a server takes more as this. */
const LONGEST_POLL = 50_000;

/** A fresh idempotency key: 128 random bits in 32 characters. Make it once for a message, not once for a try. */
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');
}

/** @param {unknown} value @param {string} name @param {number} least @param {number} most */
function whole(value, name, least, most) {
  if (Number.isInteger(value) && Number(value) >= least && Number(value) <= most) return Number(value);
  throw new TypeError(`${name}: ${String(value)}, must be a whole number from ${least} to ${most}`);
}

/** What paths are appended to. @param {unknown} url */
function baseOf(url) {
  if (typeof url !== 'string' && !(url instanceof URL)) throw new TypeError(`url: ${String(url)}, must be a string or a URL`);
  let base;
  try {
    base = new URL(url, globalThis.location?.href);
  } catch (cause) {
    throw new TypeError(`url: ${JSON.stringify(url)}, must be a URL, and absolute where there is no page`, { cause });
  }
  if (base.protocol !== 'http:' && base.protocol !== 'https:') throw new TypeError(`url: ${base.href}, must be http: or https:`);
  if (base.username || base.password) throw new TypeError('url: has a user or a password, which belong into the option headers');
  base.search = base.hash = '';
  if (!base.pathname.endsWith('/')) base.pathname += '/';
  return base;
}

/** The transports to use, best first. @param {import('../index.js').ClientOptions} options @param {boolean} hasSocket */
function transportsOf(options, hasSocket) {
  const asked = options.transports ?? ALL;
  for (const t of asked) {
    if (!ALL.includes(t)) throw new TypeError(`transports: ${JSON.stringify(t)}, must be among ${ALL.join(', ')}`);
  }
  if (asked.length === 0) throw new TypeError('transports: empty, at least one is required');
  const transports = [...new Set(asked)].filter((t) => t !== 'websocket' || (hasSocket && options.headers === undefined));
  if (transports.length > 0) return transports;
  throw new TypeError(hasSocket
    ? 'transports: only websocket, which cannot carry the option headers'
    : 'transports: only websocket, which this engine has not; Node 20 has it with --experimental-websocket, or give the option WebSocket');
}

/** @param {unknown} channels @returns {readonly string[]} */
function channelsOf(channels) {
  if (Array.isArray(channels) && channels.every((c) => typeof c === 'string')) return channels;
  throw new TypeError('channels: must be an array of strings');
}

export class Client {
  #http;
  #reader;
  #choice;
  #webSocket;
  #openTimeout;
  #sendTries;
  #sendTimeout;

  /** @param {string | URL} url @param {import('../index.js').ClientOptions} [options] */
  constructor(url, options = {}) {
    known(options, ['fetch', 'WebSocket', 'headers', 'transports', 'payloads', 'openTimeout', 'sendTries', 'sendTimeout']);
    const base = baseOf(url);
    if (typeof options.headers !== 'function') headersOf(options.headers); // what is no header is told now
    const payloads = options.payloads ?? 'parsed';
    if (payloads !== 'parsed' && payloads !== 'text') throw new TypeError(`payloads: ${JSON.stringify(payloads)}, must be parsed or text`);
    this.#webSocket = options.WebSocket ?? globalThis.WebSocket;
    const transports = transportsOf(options, this.#webSocket !== undefined);
    const { fetch } = options;
    this.#http = new Http(base, fetch ? (...args) => fetch(...args) : (...args) => globalThis.fetch(...args), options.headers);
    this.#reader = new Reader(payloads === 'text');
    this.#choice = new Choice(transports);
    this.#openTimeout = whole(options.openTimeout ?? 10_000, 'openTimeout', 1, 600_000);
    this.#sendTries = whole(options.sendTries ?? 10, 'sendTries', 1, 100);
    this.#sendTimeout = whole(options.sendTimeout ?? 10_000, 'sendTimeout', 1, 600_000);
  }

  /**
   * @param {readonly import('../index.js').Message[]} messages
   * @param {import('../index.js').SendOptions} [options]
   * @returns {Promise<import('../index.js').Receipt[]>}
   */
  async send(messages, options = {}) {
    known(options, ['signal']);
    const body = sendBody(messages);
    const keyed = messages.every((m) => m.key);
    const delay = new Delay(100, 5000);
    for (let tries = 1, unknown = false; ; tries++) {
      try {
        return await this.#sendOnce(body, messages.length, options.signal);
      } catch (error) {
        if (!(error instanceof PostbusError)) throw error;
        const certain = notStored(error) || !curable(error);
        unknown ||= !certain;
        if (!curable(error) || (!certain && !keyed) || tries === this.#sendTries) {
          error.outcomeUnknown = unknown;
          throw error;
        }
        await pause(delay.next(error.retryDelay), options.signal);
      }
    }
  }

  /** @param {string} body @param {number} count @param {AbortSignal} [signal] */
  async #sendOnce(body, count, signal) {
    const answer = parsed(await this.#http.ask('v1/send', body, this.#sendTimeout, signal));
    const results = answer?.results;
    if (!Array.isArray(results) || results.length !== count) throw malformed(`the server's answer: not ${count} results`);
    return results.map((result) => ({ id: idOf(result?.id, 'id'), duplicate: result.duplicate === true }));
  }

  /**
   * @param {readonly string[]} channels
   * @param {import('../index.js').PollOptions} [options]
   * @returns {Promise<any>}
   */
  async poll(channels, options = {}) {
    known(options, ['after', 'timeout', 'max', 'signal']);
    const { timeout, max, signal } = options;
    const body = JSON.stringify({
      channels: channelsOf(channels), after: cursorOf(options.after), max,
      timeout: timeout === undefined ? undefined : seconds(timeout, 'timeout'),
    });
    const most = Math.min(timeout ?? LONGEST_POLL, LONGEST_POLL) + POLL_MARGIN;
    return this.#reader.response(await this.#http.ask('v1/poll', body, most, signal));
  }

  /**
   * @param {readonly string[]} channels
   * @param {import('../index.js').SubscribeOptions} [options]
   * @returns {any}
   */
  subscribe(channels, options = {}) {
    known(options, ['after', 'heartbeat', 'positions', 'onState', 'signal']);
    const { heartbeat, positions, onState, signal } = options;
    const way = {
      http: this.#http, choice: this.#choice, reader: this.#reader, WebSocket: this.#webSocket, openTimeout: this.#openTimeout,
    };
    return new Subscription(way, channelsOf(channels), {
      after: cursorOf(options.after), heartbeat, positions, onState, signal,
      heartbeatText: heartbeat === undefined ? undefined : seconds(heartbeat, 'heartbeat'),
    });
  }
}
