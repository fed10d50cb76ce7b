// What may stand between a client and the program: it passes bytes on, and does to them what a test says.
import { once } from 'node:events';
import net from 'node:net';

/** Starts a proxy to whatever address() says when a connection comes. Set its rules at any time. */
export async function startProxy(t, address) {
  const proxy = {
    away: false, // takes no connection
    refuseUpgrades: false, // answers 403 to a WebSocket, as a proxy does that was not told of them
    holdEvents: false, // keeps SSE back, as one that buffers answers
    longest: 0, // ms that a request may take; 0: for ever
    loseAnswers: 0, // of so many sends the answer is lost, and the connection breaks
    passed: 0, // bytes to clients
  };
  const pairs = new Set();
  const server = net.createServer((client) => {
    if (proxy.away) {
      client.resetAndDestroy();
      return;
    }
    const [host, port] = address().split(':');
    const program = net.connect({ host, port: Number(port) });
    const pair = { held: false, lost: false, timer: undefined };
    pairs.add(client).add(program);
    const end = () => {
      clearTimeout(pair.timer);
      client.destroy();
      program.destroy();
      pairs.delete(client);
      pairs.delete(program);
    };
    for (const socket of [client, program]) socket.on('error', end).on('close', end);
    client.on('data', (chunk) => {
      const head = chunk.subarray(0, 8192).toString('latin1');
      if (/^(GET|POST) /.test(head)) {
        clearTimeout(pair.timer);
        if (proxy.longest) pair.timer = setTimeout(end, proxy.longest);
        if (proxy.refuseUpgrades && /^upgrade: *websocket/im.test(head)) {
          return client.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
        }
        pair.held = proxy.holdEvents && /^accept: *text\/event-stream/im.test(head);
        pair.lost = proxy.loseAnswers > 0 && head.startsWith('POST /v1/send');
      }
      if (!program.write(chunk)) client.pause();
      return undefined;
    });
    program.on('drain', () => client.resume());
    program.on('data', (chunk) => {
      if (pair.held) return; // into its buffer, for ever
      if (pair.lost) {
        proxy.loseAnswers--;
        return end();
      }
      proxy.passed += chunk.length;
      if (!client.write(chunk)) program.pause();
      return undefined;
    });
    client.on('drain', () => program.resume());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  proxy.url = `http://127.0.0.1:${server.address().port}`;
  proxy.cut = () => pairs.forEach((socket) => socket.destroy());
  t.after(() => {
    proxy.cut();
    server.close();
  });
  return proxy;
}
