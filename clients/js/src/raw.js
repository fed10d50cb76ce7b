// Finds the text of members in JSON that JSON.parse has accepted: parsing alone would lose digits of large numbers, and
// repeated names.

const QUOTE = 0x22, COMMA = 0x2c, COLON = 0x3a, BACKSLASH = 0x5c, OPEN_LIST = 0x5b, CLOSE_LIST = 0x5d, OPEN = 0x7b, CLOSE = 0x7d;

/** @param {string} text @param {number} at */
function skipSpace(text, at) {
  while (text.charCodeAt(at) <= 0x20) at++;
  return at;
}

/** The index behind the string that begins at at. @param {string} text @param {number} at */
function stringEnd(text, at) {
  for (let i = at + 1; ; i++) {
    const c = text.charCodeAt(i);
    if (c === QUOTE) return i + 1;
    if (c === BACKSLASH) i++;
  }
}

/** The index behind the value that begins at at. No recursion: a payload nests as deep as it likes. @param {string} text @param {number} at */
function valueEnd(text, at) {
  let depth = 0;
  for (let i = at; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === QUOTE) {
      i = stringEnd(text, i) - 1;
      if (depth === 0) return i + 1;
    } else if (c === OPEN || c === OPEN_LIST) {
      depth++;
    } else if (c === CLOSE || c === CLOSE_LIST) {
      if (depth === 0) return i; // of what the value stands in
      depth--;
    } else if (depth === 0 && (c === COMMA || c <= 0x20)) {
      return i;
    }
  }
  return text.length;
}

/**
 * Where the value of the object's member begins; of one that is named twice, the last, as in JSON.parse. -1: nowhere.
 * @param {string} text
 * @param {number} at of the object
 * @param {string} name
 */
function member(text, at, name) {
  let found = -1;
  for (let i = skipSpace(text, at + 1); text.charCodeAt(i) === QUOTE;) {
    const end = stringEnd(text, i);
    const is = JSON.parse(text.slice(i, end));
    i = skipSpace(text, end);
    if (text.charCodeAt(i) !== COLON) break;
    i = skipSpace(text, i + 1);
    if (is === name) found = i;
    i = skipSpace(text, valueEnd(text, i));
    if (text.charCodeAt(i) === COMMA) i = skipSpace(text, i + 1);
  }
  return found;
}

/**
 * The text of a notification's payload; undefined: it has none.
 * @param {string} text
 * @param {number} [at] of the notification
 */
export function payloadText(text, at = skipSpace(text, 0)) {
  const from = member(text, at, 'payload');
  return from < 0 ? undefined : text.slice(from, valueEnd(text, from));
}

/** The texts of the payloads of a response's notifications, in their order. @param {string} text */
export function payloadTexts(text) {
  /** @type {(string | undefined)[]} */
  const texts = [];
  const list = member(text, skipSpace(text, 0), 'notifications');
  if (text.charCodeAt(list) !== OPEN_LIST) return texts;
  for (let i = skipSpace(text, list + 1); text.charCodeAt(i) !== CLOSE_LIST;) {
    texts.push(text.charCodeAt(i) === OPEN ? payloadText(text, i) : undefined);
    i = skipSpace(text, valueEnd(text, i));
    if (text.charCodeAt(i) === COMMA) i = skipSpace(text, i + 1);
  }
  return texts;
}
