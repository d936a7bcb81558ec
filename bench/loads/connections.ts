/**
 * `node connections.ts COUNT PARALLEL keep|close FIRST [IP]`: opens COUNT connections, PARALLEL at a time, and has one HTTP answer on
 * each. To IP where it is given, else each to another address of p3, from number FIRST. Prints `{"elapsedUs","failed"}` when all have
 * answered; with `keep` it then holds them until it is ended.
 */
import { connect } from 'node:net';
import { HTTP_PORT } from '../servers.ts';
import { manyAddress } from '../topology.ts';

const [count, parallel, mode, first, ip] = process.argv.slice(2) as [string, string, string, string, string?];
const ANSWER_TIMEOUT_MS = 15_000;
let next = 0;
let failed = 0;

async function openSome(): Promise<void> {
  while (next < Number(count)) {
    const n = next++;
    if (!(await open(ip ?? manyAddress(Number(first) + n)))) failed++;
  }
}

function open(host: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port: HTTP_PORT, noDelay: true });
    let isAnswered = false;
    socket.setTimeout(ANSWER_TIMEOUT_MS, () => socket.destroy());
    socket.on('error', () => {});
    socket.on('close', () => resolve(isAnswered));
    socket.on('data', (answer) => {
      isAnswered ||= answer.toString('latin1', 0, 12) === 'HTTP/1.1 200';
      if (mode !== 'keep') return;
      socket.setTimeout(0);
      resolve(isAnswered);
    });
    socket.write(`GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: ${mode === 'keep' ? 'keep-alive' : 'close'}\r\n\r\n`);
  });
}

const start = performance.now();
await Promise.all(Array.from({ length: Number(parallel) }, openSome));
const elapsedUs = Math.round((performance.now() - start) * 1000);
console.log(JSON.stringify({ elapsedUs, failed }));
// A proxy that cuts a held connection must not end this process early.
if (mode === 'keep') setInterval(() => {}, 60_000);
