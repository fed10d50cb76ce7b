import { broken, errorOf, malformed, PostbusError, retryOf } from './errors.js';
import { LARGEST } from './http.js';
import { Watch } from './time.js';
import { parsed } from './wire.js';

/** @typedef {{ type: string, data: string, id: string }} ServerSentEvent */

/**
 * Reads an event stream as the HTML standard says (9.2.6): any of CR, LF and CRLF ends a line, chunks may end anywhere, within a
 * character too. What an unfinished event may hold is bounded by LARGEST.
 */
export class EventParser {
  #decoder = new TextDecoder();
  #pending = ''; // of the line that is not whole
  #skipLF = false; // the last chunk ended with a CR
  #type = '';
  /** @type {string[]} */
  #data = [];
  #size = 0;
  #id = '';

  /** What the last retry: said, in ms; -1: nothing. */
  retry = -1;

  /** Takes a chunk and yields the events that it completes. @param {Uint8Array} chunk @returns {Generator<ServerSentEvent, void>} */
  *push(chunk) {
    const text = this.#decoder.decode(chunk, { stream: true });
    const breaks = /[\r\n]/g;
    let at = 0;
    if (this.#skipLF && text !== '') {
      this.#skipLF = false;
      if (text[0] === '\n') at = breaks.lastIndex = 1;
    }
    for (let end; (end = breaks.exec(text)?.index) !== undefined; at = breaks.lastIndex) {
      const line = this.#pending + text.slice(at, end);
      this.#pending = '';
      if (text[end] === '\r') {
        if (end + 1 === text.length) this.#skipLF = true;
        else if (text[end + 1] === '\n') breaks.lastIndex = end + 2;
      }
      const event = this.#line(line);
      if (event) yield event;
    }
    this.#pending += text.slice(at);
    if (this.#pending.length + this.#size > LARGEST) throw malformed(`an event of more than ${LARGEST} characters`);
  }

  /** @param {string} line @returns {ServerSentEvent | undefined} */
  #line(line) {
    if (line === '') {
      const event = { type: this.#type || 'message', data: this.#data.join('\n'), id: this.#id };
      const some = this.#data.length > 0;
      [this.#type, this.#data, this.#size] = ['', [], 0];
      return some ? event : undefined;
    }
    const colon = line.indexOf(':');
    if (colon === 0) return undefined; // a comment
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1);
    if (field === 'event') {
      this.#type = value;
    } else if (field === 'data') {
      this.#data.push(value);
      this.#size += value.length + 1;
    } else if (field === 'id' && !value.includes('\0')) {
      this.#id = value;
    } else if (field === 'retry' && /^[0-9]+$/.test(value)) {
      this.retry = Number(value);
    }
    return undefined;
  }
}

/** The answer of an event; undefined of one that is not known. @param {ServerSentEvent} event @param {import('./wire.js').Reader} reader */
function answerOf({ type, data }, reader) {
  switch (type) {
    case 'message': return reader.notification(data);
    case 'position': return reader.response(data);
    case 'gap': return reader.gap(data);
    case 'fault': throw errorOf(parsed(data)) ?? malformed('the server\'s fault has no form');
    default: return undefined;
  }
}

/**
 * Subscribe as server-sent events, read by fetch: with headers of the user's own, in Node too, and with back pressure, for who
 * does not take answers does not read. It throws when the stream ends, whyever.
 * @param {import('./transports.js').Line} line
 * @returns {AsyncGenerator<import('./wire.js').Answer, void>}
 */
export async function* serverSentEvents(line) {
  const watch = new Watch(line.signal);
  const parser = new EventParser();
  try {
    watch.expect(line.openTimeout, 'no event on a new stream');
    const response = await line.http.post('v1/subscribe', line.body(), 'text/event-stream', watch.signal);
    const body = response.body?.getReader();
    if (!body) throw malformed('an answer without a body');
    for (let opened = false; ;) {
      const { done, value } = await body.read();
      if (done) throw broken('the server ended the stream');
      if (opened) watch.rest();
      for (const event of parser.push(value)) {
        const answer = answerOf(event, line.reader);
        if (!answer) continue;
        opened = true;
        watch.rest();
        yield answer;
      }
      if (opened) watch.expect(line.silence, 'nothing on the stream');
    }
  } catch (cause) {
    let error = watch.cause(cause);
    if (!(error instanceof PostbusError) && !watch.signal.aborted) error = broken('the stream broke', error);
    if (error instanceof PostbusError && parser.retry > 0) error.retryDelay = Math.max(error.retryDelay, retryOf(parser.retry));
    throw error;
  } finally {
    watch.end();
  }
}
