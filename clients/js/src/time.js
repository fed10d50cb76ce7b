import { late } from './errors.js';

/** A full-jitter pause below a bound that doubles, so that the clients of a server that came back do not come all at once. */
export class Delay {
  #first;
  #most;
  #bound = 0;

  /** @param {number} first ms @param {number} most ms */
  constructor(first, most) {
    this.#first = first;
    this.#most = most;
  }

  /** How long to wait now, in ms: what the server asked for is the least, the jitter comes on top. @param {number} asked ms */
  next(asked) {
    this.#bound = Math.min(Math.max(2 * this.#bound, this.#first), this.#most);
    return asked + Math.random() * this.#bound;
  }

  /** Makes the next wait a first one. */
  reset() {
    this.#bound = 0;
  }
}

/** Waits for ms, or less if signal is aborted. @param {number} ms @param {AbortSignal} [signal] @returns {Promise<void>} */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener('abort', end);
  });
}

/**
 * Makes the end of signal that of controller, until the returned function is called. (AbortSignal.any is younger than the
 * engines that this must run on.)
 * @param {AbortSignal | undefined} signal
 * @param {AbortController} controller
 */
export function follow(signal, controller) {
  const end = () => controller.abort(signal?.reason);
  if (signal?.aborted) end();
  signal?.addEventListener('abort', end);
  return () => signal?.removeEventListener('abort', end);
}

/**
 * What promise says, unless signal ends before; then it rejects with the signal's reason.
 * @template T
 * @param {T | Promise<T>} promise
 * @param {AbortSignal} signal
 * @returns {Promise<T>}
 */
export function unless(promise, signal) {
  return new Promise((resolve, reject) => {
    const end = () => reject(signal.reason);
    if (signal.aborted) end();
    signal.addEventListener('abort', end);
    Promise.resolve(promise).then(resolve, reject).finally(() => signal.removeEventListener('abort', end));
  });
}

/** A signal that ends with another one, when it is told to, or when what is expected does not come. */
export class Watch {
  #controller = new AbortController();
  #unlink;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {AbortSignal} [signal] */
  constructor(signal) {
    this.#unlink = follow(signal, this.#controller);
  }

  get signal() {
    return this.#controller.signal;
  }

  /** Ends the signal with DEADLINE_EXCEEDED after ms, unless expect or rest is called before. @param {number} ms @param {string} what */
  expect(ms, what) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#controller.abort(late(`${what} for ${ms} ms`)), ms);
  }

  /** Expects nothing for now: the time that the reader takes is not the server's silence. */
  rest() {
    clearTimeout(this.#timer);
  }

  /** Why it ended: what ended the signal, otherwise error. @param {unknown} error */
  cause(error) {
    return this.signal.aborted ? this.signal.reason : error;
  }

  /** Ends the signal and whatever hangs on it. */
  end() {
    clearTimeout(this.#timer);
    this.#unlink();
    this.#controller.abort();
  }
}
