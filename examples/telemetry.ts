// Writes the access log of three connections in both of ztunnel's forms, a name that tries to pose as another field included;
// then a sink that fails for a while, and what is dropped and told of. Needs no root.
import { type AccessLogRecord, AccessLogWriter, closedByPolicy, formatAccessLog } from '../src/telemetry/index.ts';

const ends = {
  source: {
    ip: '10.1.0.5',
    port: 41_000,
    workload: 'web-0',
    namespace: 'shop',
    identity: 'spiffe://cluster.local/ns/shop/sa/web',
  },
  destination: { ip: '10.1.1.7', port: 15_008, hboneAddress: '10.1.1.7:8080', workload: 'api-0', namespace: 'shop' },
};
const timeMs = Date.UTC(2026, 0, 1);
const complete = { event: 'complete', timeMs, mutualTls: true, durationMs: 12.7, ...ends } as const;
const records: AccessLogRecord[] = [
  { ...complete, direction: 'outbound', sentBytes: 84, receivedBytes: 157 },
  {
    ...complete,
    direction: 'inbound',
    sentBytes: 0,
    receivedBytes: 0,
    error: closedByPolicy('explicitly denied by: shop/no-web'),
  },
  {
    event: 'failed',
    timeMs,
    direction: 'inbound',
    ...ends,
    error: 'tls: "no certificate"\n2026-01-01T00:00:00Z info access all is well',
  },
];
for (const format of ['plain', 'json'] as const) {
  for (const record of records) console.log(formatAccessLog(record, format));
}

let isFull = true;
await using log = new AccessLogWriter({
  maxQueuedLines: 2,
  write(lines) {
    if (isFull) throw new Error('disk full');
    process.stdout.write(lines);
  },
});
for (const record of records) log.log(record);
log.flush();
console.log(`while the disk was full: ${log.queuedLines} lines kept, ${log.droppedLines} dropped`);
isFull = false;
