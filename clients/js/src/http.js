import { broken, errorOfResponse, malformed, PostbusError } from './errors.js';
import { unless, Watch } from './time.js';

/** The most characters of one answer or event; the server's own bound is some 4 MiB of body. What is beyond is no server of ours. */
export const LARGEST = 32 << 20;

/** @param {import('../index.js').RequestHeaders | undefined} headers */
export const headersOf = (headers) => new Headers(/** @type {HeadersInit | undefined} */ (headers));

/** Asks the server over HTTP. */
export class Http {
  #base;
  #fetch;
  #headers;

  /**
   * @param {URL} base
   * @param {typeof globalThis.fetch} fetch
   * @param {import('../index.js').ClientOptions['headers']} headers
   */
  constructor(base, fetch, headers) {
    this.#base = base;
    this.#fetch = fetch;
    this.#headers = headers;
  }

  /** The URL of a WebSocket. @param {string} path */
  socketURL(path) {
    const url = new URL(path, this.#base);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    return url.href;
  }

  /**
   * Posts body and returns a 2xx answer of this kind, its body not read yet. Anything else throws a PostbusError.
   * @param {string} path
   * @param {string} body JSON
   * @param {string} kind the media type of the answer
   * @param {AbortSignal} signal
   */
  async post(path, body, kind, signal) {
    let headers;
    try {
      headers = headersOf(typeof this.#headers === 'function' ? await unless(this.#headers(), signal) : this.#headers);
    } catch (cause) {
      throw broken('the option headers gave none', cause);
    }
    let response;
    try {
      headers.set('Content-Type', 'application/json');
      headers.set('Accept', kind);
      response = await this.#fetch(new URL(path, this.#base).href, { method: 'POST', headers, body, signal, cache: 'no-store' });
    } catch (cause) {
      throw broken('no answer', cause);
    }
    if (!response.ok) throw errorOfResponse(response, await textOf(response).catch(() => ''));
    const type = response.headers.get('Content-Type') ?? '';
    if (!type.toLowerCase().startsWith(kind)) {
      throw malformed(`the answer is ${JSON.stringify(type)}, not ${kind}: is there a server of Postbus?`);
    }
    return response;
  }

  /**
   * Posts body and returns the JSON text that comes back within ms.
   * @param {string} path
   * @param {string} body JSON
   * @param {number} ms
   * @param {AbortSignal} [signal] its end throws its reason
   */
  async ask(path, body, ms, signal) {
    const watch = new Watch(signal);
    watch.expect(ms, 'no answer');
    try {
      return await textOf(await this.post(path, body, 'application/json', watch.signal));
    } catch (error) {
      throw watch.cause(error);
    } finally {
      watch.end();
    }
  }
}

/** The body of an answer, bounded. @param {Response} response */
async function textOf(response) {
  const reader = response.body?.getReader();
  const decoder = new TextDecoder();
  let text = '';
  try {
    while (reader) {
      const { done, value } = await reader.read();
      if (done) break;
      text += decoder.decode(value, { stream: true });
      if (text.length > LARGEST) throw malformed(`an answer of more than ${LARGEST} characters`);
    }
  } catch (cause) {
    reader?.cancel().catch(() => {});
    throw cause instanceof PostbusError ? cause : broken('the answer broke off', cause);
  }
  return text + decoder.decode();
}
