import assert from 'node:assert/strict';
import test from 'node:test';
import { LARGEST } from '../src/http.js';
import { EventParser } from '../src/sse.js';

/** What the parser makes of bytes that come in pieces of this length. */
function events(bytes, length = bytes.length) {
  const parser = new EventParser();
  const got = [];
  for (let at = 0; at < bytes.length; at += length) got.push(...parser.push(bytes.subarray(at, at + length)));
  return { got, retry: parser.retry };
}

const cases = [
  ['the three ends of a line', 'data: a\ndata: b\r\ndata: c\rdata\r\n\r\n', [['message', 'a\nb\nc\n', '']]],
  ['no space or one behind the colon', 'data:a\ndata:  b\n\n', [['message', 'a\n b', '']]],
  ['a byte order mark at the beginning, and only there', '\uFEFFdata: \uFEFFa\n\n', [['message', '\uFEFFa', '']]],
  ['comments', ': hello\n:\ndata: a\n: b\n\n', [['message', 'a', '']]],
  ['names', 'event: gap\nid: 7\ndata: x\n\ndata: y\n\n', [['gap', 'x', '7'], ['message', 'y', '7']]],
  ['an id that is empty, and one with NUL, which is none', 'id: 1\ndata: a\n\nid: 2\0\ndata: b\n\nid\ndata: c\n\n', [['message', 'a', '1'], ['message', 'b', '1'], ['message', 'c', '']]],
  ['fields that are not known, and names in another case', 'DATA: no\ndatum: no\n data: no\ndata: a\n\n', [['message', 'a', '']]],
  ['an event without data is none', 'event: gap\nid: 3\n\ndata: a\n\n', [['message', 'a', '3']]],
  ['an event that is not whole is none', 'data: a\n\ndata: b\n', [['message', 'a', '']]],
  ['characters of two, three and four bytes', 'data: ü€𝄞\n\n', [['message', 'ü€𝄞', '']]],
  ['what ends a line elsewhere', 'data: a\u2028b\u0085c\n\n', [['message', 'a\u2028b\u0085c', '']]],
];

for (const [name, text, want] of cases) {
  test(`an event stream with ${name}`, () => {
    const bytes = new TextEncoder().encode(text);
    for (let length = 1; length <= bytes.length; length++) {
      assert.deepEqual(events(bytes, length).got, want.map(([type, data, id]) => ({ type, data, id })), `in pieces of ${length}`);
    }
  });
}

test('retry: is digits only', () => {
  for (const [text, want] of [['retry: 1500\n', 1500], ['retry:7\n', 7], ['retry: 1.5\n', -1], ['retry: -1\n', -1], ['retry\n', -1]]) {
    assert.equal(events(new TextEncoder().encode(text)).retry, want);
  }
});

test('an event without end is bounded', () => {
  for (const piece of ['x'.repeat(1 << 20), `data: ${'x'.repeat(1 << 20)}\n`]) {
    const parser = new EventParser();
    const bytes = new TextEncoder().encode(piece);
    assert.throws(() => {
      for (let size = 0; size <= LARGEST + bytes.length; size += bytes.length) [...parser.push(bytes)];
    }, { name: 'PostbusError', message: `an event of more than ${LARGEST} characters` });
  }
});
