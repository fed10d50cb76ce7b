/** The names of the gRPC codes, by number. */
const STATUSES = [
  'OK', 'CANCELLED', 'UNKNOWN', 'INVALID_ARGUMENT', 'DEADLINE_EXCEEDED', 'NOT_FOUND', 'ALREADY_EXISTS', 'PERMISSION_DENIED',
  'RESOURCE_EXHAUSTED', 'FAILED_PRECONDITION', 'ABORTED', 'OUT_OF_RANGE', 'UNIMPLEMENTED', 'INTERNAL', 'UNAVAILABLE', 'DATA_LOSS',
  'UNAUTHENTICATED',
];

/** The number of a gRPC code. @param {string} status */
export const codeOf = (status) => STATUSES.indexOf(status);

/** Which codes no later try cures. What is not listed may be: a proxy on the way answers nearly anything for a while. */
const INCURABLE = new Set([
  'INVALID_ARGUMENT', 'UNIMPLEMENTED', 'PERMISSION_DENIED', 'UNAUTHENTICATED', 'NOT_FOUND', 'ALREADY_EXISTS', 'FAILED_PRECONDITION',
  'OUT_OF_RANGE',
]);

/** The reasons by which a server says that it does not speak a transport. */
const OTHER_TRANSPORT = new Set(['NOT_ACCEPTABLE', 'NOT_IMPLEMENTED', 'METHOD_NOT_ALLOWED', 'NOT_FOUND']);

/** What gRPC makes of an HTTP status that comes without a body of the server's. */
const CODES_OF_HTTP = new Map([
  [400, 'INTERNAL'], [401, 'UNAUTHENTICATED'], [403, 'PERMISSION_DENIED'], [404, 'UNIMPLEMENTED'], [405, 'UNIMPLEMENTED'],
  [413, 'INVALID_ARGUMENT'], [429, 'UNAVAILABLE'], [502, 'UNAVAILABLE'], [503, 'UNAVAILABLE'], [504, 'UNAVAILABLE'],
]);

/** How long a server may ask to be left alone, at most, in ms. */
const LONGEST_ASKED = 60_000;

export class PostbusError extends Error {
  /**
   * @param {string} status
   * @param {string} message
   * @param {{ reason?: string, details?: readonly import('../index.js').ErrorDetail[], retryDelay?: number,
   *   fromServer?: boolean, outcomeUnknown?: boolean, code?: number, cause?: unknown }} [more]
   */
  constructor(status, message, more = {}) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.name = 'PostbusError';
    this.code = more.code ?? Math.max(codeOf(status), 0);
    this.status = status;
    this.reason = more.reason ?? '';
    this.details = more.details ?? [];
    this.retryDelay = more.retryDelay ?? 0;
    this.fromServer = more.fromServer ?? false;
    this.outcomeUnknown = more.outcomeUnknown ?? false;
  }
}

/** The error of a connection that failed or broke. @param {string} message @param {unknown} [cause] */
export function broken(message, cause) {
  const why = cause instanceof Error ? `${message}: ${cause.message}` : message;
  return new PostbusError('UNAVAILABLE', why, { cause });
}

/** The error of what is not of the wire's form. @param {string} message @param {unknown} [cause] */
export const malformed = (message, cause) => new PostbusError('UNKNOWN', message, { cause });

/** The error of an answer that did not come in time. @param {string} message */
export const late = (message) => new PostbusError('DEADLINE_EXCEEDED', message);

/**
 * The error that a server's {"error": …} says; undefined if it says none.
 * @param {any} body parsed JSON
 * @returns {PostbusError | undefined}
 */
export function errorOf(body) {
  const error = body?.error;
  if (typeof error !== 'object' || error === null || typeof error.status !== 'string') return undefined;
  const details = Array.isArray(error.details) ? error.details.filter((/** @type {unknown} */ d) => typeof d === 'object' && d !== null) : [];
  const ofType = (/** @type {string} */ name) => details.find((/** @type {any} */ d) => String(d['@type']).endsWith(`google.rpc.${name}`));
  const seconds = /^([0-9]+(?:\.[0-9]+)?)s$/.exec(ofType('RetryInfo')?.retry_delay ?? '');
  return new PostbusError(error.status, String(error.message ?? ''), {
    code: Number.isInteger(error.code) ? error.code : undefined,
    reason: String(error.reason ?? ''),
    details,
    retryDelay: seconds ? Math.min(Number(seconds[1]) * 1000, LONGEST_ASKED) : 0,
    fromServer: ofType('ErrorInfo')?.domain === 'postbus',
  });
}

/**
 * The error that an HTTP answer other than 2xx says, the server's own or a proxy's.
 * @param {Response} response
 * @param {string} text its body
 */
export function errorOfResponse(response, text) {
  const asked = retryAfter(response.headers.get('Retry-After'));
  let error;
  try {
    error = errorOf(JSON.parse(text));
  } catch {
    // a proxy's page
  }
  error ??= new PostbusError(CODES_OF_HTTP.get(response.status) ?? 'UNKNOWN', `HTTP ${response.status} without the server's form of an error`);
  error.retryDelay = Math.max(error.retryDelay, asked);
  return error;
}

/** What Retry-After says, in ms; 0: nothing. @param {string | null} value */
export function retryAfter(value) {
  if (!value) return 0;
  const asked = /^[0-9]+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return asked > 0 ? Math.min(asked, LONGEST_ASKED) : 0;
}

/** The least pause that an SSE stream's retry: asks for, in ms. @param {number} ms */
export const retryOf = (ms) => Math.min(ms, LONGEST_ASKED);

/** Whether trying again may help. @param {unknown} error */
export const curable = (error) => !(error instanceof PostbusError && INCURABLE.has(error.status));

/** Whether the server said that it does not speak this transport. @param {PostbusError} error */
export const wantsOtherTransport = (error) => error.fromServer && OTHER_TRANSPORT.has(error.reason);

/** Whether a send that failed so has certainly stored nothing, and a later try may. @param {PostbusError} error */
export const notStored = (error) => error.fromServer && (error.status === 'UNAVAILABLE' || error.status === 'RESOURCE_EXHAUSTED');
