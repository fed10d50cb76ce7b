/**
 * Sends to a Postbus server and reads from it, in browsers and in Node, and goes on by itself where a connection broke: a send
 * with keys is repeated until it is known to be stored once, and a subscription resumes behind the last event that it handed out,
 * over whichever of WebSocket, server-sent events and long-poll gets through. Durations are milliseconds.
 *
 * @module
 */

/** A way to receive. */
export type Transport = 'websocket' | 'sse' | 'poll';

/** Names and values of headers. */
export type RequestHeaders = Headers | Readonly<Record<string, string>> | [string, string][];

/** What is needed of a WebSocket. */
export interface WebSocketLike {
  binaryType: string;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(text: string): void;
  close(): void;
}

/** How to reach a server. What is left out has its documented default; an option that is not known is a TypeError. */
export interface ClientOptions {
  /** What asks over HTTP. Default: globalThis.fetch. Wrap it to send cookies to another origin, say. */
  fetch?: typeof globalThis.fetch;

  /**
   * The class of WebSockets, that of the package ws, say. Default: globalThis.WebSocket; Node 20 has none unless it is started with
   * `--experimental-websocket`, and goes without that transport then.
   */
  WebSocket?: new (url: string) => WebSocketLike;

  /**
   * Sent with every request; a function is asked before each, for what expires. A browser's WebSocket carries none, so with this
   * option that transport is left out.
   */
  headers?: RequestHeaders | (() => RequestHeaders | Promise<RequestHeaders>);

  /** The transports that a subscription may use, best first. Default: `['websocket', 'sse', 'poll']`. */
  transports?: readonly Transport[];

  /**
   * What becomes of the JSON that is received. `'parsed'` (default): `payload`, as JSON.parse has it, where numbers beyond 2^53
   * lose digits. `'text'`: `json`, the tokens as sent.
   */
  payloads?: 'parsed' | 'text';

  /** How long a new stream may take to its first response before another transport is tried. 1 to 600,000. Default: 10,000. */
  openTimeout?: number;

  /** How often a send is tried at most. 1 to 100. Default: 10. */
  sendTries?: number;

  /** Bounds one try of a send. 1 to 600,000. Default: 10,000. */
  sendTimeout?: number;
}

/** What is sent. The limits are the server's, which names what exceeds them. At most one of `payload`, `json` and `binary`. */
export interface Message {
  /** The address: 1 to 255 bytes. */
  channel: string;

  /** What kind of message it is, for the reader to dispatch on: 0 to 255 bytes. */
  type?: string;

  /** Whatever JSON.stringify takes. Without any body: JSON's null. */
  payload?: unknown;

  /** A JSON text, delivered as the same tokens: for numbers beyond 2^53. */
  json?: string;

  /** Delivered as the same bytes. */
  binary?: ArrayBufferView | ArrayBuffer;

  /** Metadata for the reader: at most 64, 4 KiB in all. */
  headers?: Readonly<Record<string, string>>;

  /** How long the message may be delivered, above 0. Default: the server's retention. */
  ttl?: number;

  /** Makes sending idempotent: a second message with it on the same channel stores nothing. {@link newKey} makes one. */
  key?: string;
}

/** What became of one message. */
export interface Receipt {
  /** The message's number; with duplicate, that of the first one with its key. */
  id: number;

  /** A message with this key was there already, perhaps this send's own of a try whose answer was lost. This one was not stored. */
  duplicate: boolean;
}

/** What is received: a message with its id. Exactly one of `payload`, `json` (with {@link ClientOptions.payloads} `'text'`) and `binary` is there. */
export interface Notification<Payload = unknown> {
  /** Above 0, below 2^53. Ids ascend in the order of delivery; a gap between two ids means nothing. */
  id: number;
  channel: string;
  type: string;
  payload?: Payload;
  json?: string;
  binary?: Uint8Array;
  headers: Record<string, string>;

  /** The database's clock when the message was numbered. It need not ascend and is never a cursor. */
  sentAt: Date;
}

/** Messages with ids in (after, until] may be missing. Reading goes on behind until with what there is. */
export interface Gap {
  /**
   * `'REASON_TRIMMED'`: retention took them before they were read. `'REASON_HISTORY'`: a failover or a restore of the database
   * lost them. `'REASON_AHEAD'`: the cursor is newer than any id the database ever gave. Expect others from newer servers.
   */
  reason: string;
  after: number;
  until: number;
}

/** What a poll answers. */
export interface Page<Payload = unknown> {
  /** What is there, ids ascending. Empty when nothing came in time. */
  notifications: Notification<Payload>[];

  /** The `after` of the next poll; always adopt it. */
  last: number;

  /** What is lost, before notifications; absent: nothing. */
  gap?: Gap;
}

export interface SendOptions {
  /** Ends it. Then it rejects with the signal's reason, and whether the messages were stored is not known. */
  signal?: AbortSignal;
}

/** A cursor: a number, or the decimal text of one (from localStorage, say); null and undefined: none. */
export type Cursor = number | string | null;

export interface PollOptions {
  /** The answer is what comes after this id. 0: from the oldest retained. None: from now on. */
  after?: Cursor;

  /** How long to wait when nothing is there, at most 50,000; 0: not at all. Default: the server's, 25,000. */
  timeout?: number;

  /** The most notifications to answer, 1 to 1,000. Default: the server's, 100. */
  max?: number;

  /** Ends it. Then it rejects with the signal's reason. */
  signal?: AbortSignal;
}

export interface SubscribeOptions {
  /** Reading begins behind this id. 0: with the oldest retained. None: from now on, where now is the server's first response. */
  after?: Cursor;

  /** The longest silence of the server, 1,000 to 50,000. A stream that is silent for 2.5 times as long is taken as dead. Default: 20,000. */
  heartbeat?: number;

  /**
   * Whether an event without notification and gap is wanted, too, whenever the server says how far this reader is: at once when
   * a stream opens (from then on nothing is missed), and as heartbeat. Default: false.
   */
  positions?: boolean;

  /** Called whenever the state of the connection changes. What it throws ends the loop. */
  onState?: (state: SubscriptionState) => void;

  /** Ends the subscription, as {@link Subscription.close} does. */
  signal?: AbortSignal;
}

/** What a subscription has to say: a notification, a gap or, with {@link SubscribeOptions.positions}, only how far it is. */
export interface SubscriptionEvent<Payload = unknown> {
  notification?: Notification<Payload>;
  gap?: Gap;

  /**
   * The cursor behind this event: keep it together with what the event caused, and pass it as `after` to go on there, later or
   * elsewhere.
   */
  last: number;
}

/** Where the connection of a subscription is. `closed` comes last, when a loop has ended; with an error if that was not asked for. */
export type SubscriptionState =
  | { state: 'connecting'; transport: Transport }
  | { state: 'open'; transport: Transport }
  | { state: 'waiting'; error: unknown; wait: number }
  | { state: 'closed'; error?: unknown };

/**
 * Reads channels from one id onward, over as many streams as it takes. It connects when a loop begins, and holds nothing open
 * between two loops; a further loop goes on behind the last event that was handed out. One loop at a time.
 *
 * Events come with ascending ids, each once ("resumes without loss or repetition"), and gaps in their place. A stream that ends,
 * breaks or falls silent is followed by another, after a jittered pause of at most 30 s, or what the server asks for. A
 * transport that does not get through where another does comes behind it then, and is tried again beside its streams: soon, since it
 * may have met no more than a server's restart, and later and later. When it gets through, reading moves to it.
 *
 * A loop that does not take events bounds what waits here: server-sent events and polls are not read then, and a WebSocket is
 * closed when 4 Mi characters wait, and resumed behind them ("a consumer that stalls holds bounded memory").
 *
 * A loop ends without an error when close is called or the signal is aborted, and with a {@link PostbusError} when the server
 * refuses in a way that trying again cannot cure (a channel that is not valid, a credential).
 */
export interface Subscription<Payload = unknown> extends AsyncIterable<SubscriptionEvent<Payload>> {
  [Symbol.asyncIterator](): AsyncGenerator<SubscriptionEvent<Payload>, void, void>;

  /** The cursor: what was handed out up to it will not come again. Undefined as long as reading from now on has not begun. */
  readonly last: number | undefined;

  /** What it receives over at the moment; undefined: it is not connected. */
  readonly transport: Transport | undefined;

  /** Ends it, and a loop that waits. */
  close(): void;
}

/** A fresh idempotency key: 128 random bits in 32 characters. Make it once for a message, not once for a try. */
export function newKey(): string;

/** Talks to one server, or to several behind one URL. It holds nothing open by itself. */
export class Client {
  /**
   * @param url The server's HTTP side, `https://app.example.com` or a path below which a proxy serves it; in a page it may be
   *   relative.
   * @throws TypeError when the URL or an option is not valid.
   */
  constructor(url: string | URL, options?: ClientOptions);

  /**
   * Stores messages, all or none, and resolves after their commit, with one receipt for each in their order. At most 1,000
   * messages, 4 MiB in all.
   *
   * A try that certainly stored nothing (the server is draining, overloaded or without its database, and says so) is repeated. One
   * of which nobody knows (a broken connection, a time-out) is repeated only when every message has a key, so that nothing is
   * stored twice. Both at most {@link ClientOptions.sendTries} times, after a jittered pause and what the server asked for.
   *
   * @throws PostbusError of the last try; with {@link PostbusError.outcomeUnknown} if any try may have stored the messages.
   * @throws TypeError when a message is not what JSON can say.
   */
  send(messages: readonly Message[], options?: SendOptions): Promise<Receipt[]>;

  /**
   * Resolves with what is there after the cursor, and otherwise with the first that comes. Finding nothing is no error. It tries
   * once: a poll that failed changed nothing and may be repeated with the same `after`.
   *
   * @param channels The addresses to read: 1 to 1,000.
   * @throws PostbusError
   */
  poll<Payload = unknown>(channels: readonly string[], options?: PollOptions): Promise<Page<Payload>>;

  /**
   * Returns a subscription to read by `for await`. It does nothing yet.
   *
   * @param channels The addresses to read: 1 to 1,000.
   */
  subscribe<Payload = unknown>(channels: readonly string[], options?: SubscribeOptions): Subscription<Payload>;
}

/** A google.rpc detail of an error: ErrorInfo, BadRequest with field_violations, RetryInfo. */
export interface ErrorDetail {
  '@type': string;
  [member: string]: unknown;
}

/** What went wrong with a server, a proxy or the network. What was wrong with an argument is a TypeError. */
export class PostbusError extends Error {
  constructor(status: string, message: string, more?: {
    reason?: string;
    details?: readonly ErrorDetail[];
    retryDelay?: number;
    fromServer?: boolean;
    outcomeUnknown?: boolean;
    code?: number;
    cause?: unknown;
  });

  /** The gRPC code of status: 3 for `'INVALID_ARGUMENT'`. */
  code: number;

  /** A name of google.rpc.Code. `'UNAVAILABLE'` without reason: no connection, or one that broke. */
  status: string;

  /** One of the server's closed list, `'INVALID_FIELD'`; `''` when it did not come from the server. */
  reason: string;

  /** What the server adds: which fields are at fault, for instance. */
  details: readonly ErrorDetail[];

  /** How long the server asks to be left alone; 0: it does not. At most 60,000. */
  retryDelay: number;

  /** Whether the server said so itself; not: a proxy, the network or this client. */
  fromServer: boolean;

  /** Of a send: it is not known whether the messages were stored. Repeat it with the same keys; without keys, only if storing twice does no harm. */
  outcomeUnknown: boolean;
}
