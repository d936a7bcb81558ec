import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { defineService, defineWorkload } from '../../src/discovery/index.ts';
import { Reactor } from '../../src/engine/index.ts';
import { ConnectionLog, type ConnectionRecord } from '../../src/ztunnel/connection-log.ts';

const source = { ip: '10.1.0.5', port: 41_000 };
const destination = { ip: '10.96.0.1', port: 80 };
const NOW_MS = Date.UTC(2026, 0, 1);

describe('ConnectionLog', () => {
  let reactor: Reactor;
  let written: string[];
  let decisions: string[];
  let broken: boolean;
  let nowMs: number;
  let log: ConnectionLog;

  beforeEach(() => {
    reactor = new Reactor();
    written = [];
    decisions = [];
    broken = false;
    nowMs = NOW_MS;
    log = new ConnectionLog({
      reactor,
      access: {
        write: (lines) => {
          if (broken) throw new Error('no room');
          written.push(lines);
        },
      },
      decisions: (line) => decisions.push(line),
      wallClockMs: () => nowMs,
    });
  });
  afterEach(() => reactor.close());

  function turnUntilWritten(): void {
    const deadline = performance.now() + 5000;
    while (written.length === 0 && performance.now() < deadline) reactor.turn(50);
  }

  /** A record as the outbound side fills it for a tunnel. */
  function tunnelled(): ConnectionRecord {
    const record = log.begin('outbound', source, destination);
    record.decision = { kind: 'hbone', via: 'direct' };
    record.destination = { ip: '10.1.1.7', port: 15_008 };
    record.hboneAddress = '10.1.1.7:8080';
    record.sourceWorkload = defineWorkload({ name: 'web-0', namespace: 'a', workloadIps: ['10.1.0.5'] });
    record.destinationWorkload = defineWorkload({ name: 'api-0', namespace: 'b', workloadIps: ['10.1.1.7'] });
    record.destinationService = defineService({ name: 'api', namespace: 'b' });
    record.sourceIdentity = 'spiffe://cluster.local/ns/a/sa/web';
    record.destinationIdentity = 'spiffe://cluster.local/ns/b/sa/api';
    record.mutualTls = true;
    return record;
  }

  it('facts 8.3: the whole line', () => {
    const record = tunnelled();
    nowMs += 12.7;
    log.end(record, { sentBytes: 84, receivedBytes: 157, failure: undefined });
    turnUntilWritten();
    expect(written).toEqual([
      '2026-01-01T00:00:00.012700Z\tinfo\taccess\tconnection complete\t' +
        'src.addr=10.1.0.5:41000 src.workload="web-0" src.namespace="a" src.identity="spiffe://cluster.local/ns/a/sa/web" src.cluster="Kubernetes" ' +
        'dst.addr=10.1.1.7:15008 dst.hbone_addr=10.1.1.7:8080 dst.service="api.b.svc.cluster.local" dst.workload="api-0" dst.namespace="b" ' +
        'dst.identity="spiffe://cluster.local/ns/b/sa/api" dst.cluster="Kubernetes" direction="outbound" bytes_sent=84 bytes_recv=157 duration="12ms"\n',
    ]);
  });

  it('facts 8.3: refused before it was known where it goes: addresses, direction and reason', () => {
    const record = tunnelled();
    record.decision = { kind: 'reject', cause: 'no-healthy-upstream' };
    record.destination = destination;
    log.end(record, { sentBytes: 0, receivedBytes: 0, failure: 'no healthy upstream: 10.96.0.1:80' });
    turnUntilWritten();
    expect(written).toEqual([
      '2026-01-01T00:00:00.000000Z\twarn\taccess\tconnection failed\t' +
        'src.addr=10.1.0.5:41000 dst.addr=10.96.0.1:80 direction="outbound" error="no healthy upstream: 10.96.0.1:80"\n',
    ]);
    expect(JSON.parse(decisions[0]!)).toMatchObject({ decision: { kind: 'reject', cause: 'no-healthy-upstream' } });
  });

  it('facts 8.3: a policy’s refusal is a complete connection, with an error', () => {
    const record = log.begin('inbound-plaintext', source, destination);
    record.decision = { kind: 'accept' };
    record.rbac = { allowed: false, reason: 'explicitly denied by: a/p', explanation: 'why' };
    const failure = 'connection closed due to policy rejection: explicitly denied by: a/p';
    log.end(record, { sentBytes: 0, receivedBytes: 0, failure });
    turnUntilWritten();
    expect(written[0]).toMatch(
      /\terror\taccess\tconnection complete\t.* direction="inbound" .* error="connection closed/,
    );
  });

  it('the decision log: one object, with everything that was decided, and nothing that was not', () => {
    const record = tunnelled();
    record.tunnel = { localIdentity: 'a', peerIdentity: 'b', tls: 'TLSv1.3 …', authority: '10.1.1.7:8080' };
    record.dialled = { ip: 'fd00::1', port: 15_008 };
    record.dialledFrom = '10.1.0.5';
    log.end(record, { sentBytes: 1, receivedBytes: 2, failure: undefined });
    expect(decisions.map((line) => JSON.parse(line))).toEqual([
      {
        time: '2026-01-01T00:00:00.000Z',
        direction: 'outbound',
        source: '10.1.0.5:41000',
        originalDestination: '10.96.0.1:80',
        decision: { kind: 'hbone', via: 'direct' },
        tunnel: { localIdentity: 'a', peerIdentity: 'b', tls: 'TLSv1.3 …', authority: '10.1.1.7:8080' },
        dialled: '[fd00::1]:15008',
        dialledFrom: '10.1.0.5',
        bytesSent: 1,
        bytesReceived: 2,
      },
    ]);
    expect(decisions[0]).not.toContain('\n');
  });

  it('counts', () => {
    const records = [tunnelled(), tunnelled(), tunnelled()];
    log.end(records[0]!, { sentBytes: 10, receivedBytes: 20, failure: undefined });
    log.end(records[1]!, { sentBytes: 1, receivedBytes: 2, failure: 'io: ECONNRESET' });
    expect([log.opened, log.closed, log.failed, log.sentBytes, log.receivedBytes]).toEqual([3, 2, 1, 11, 22]);
  });

  it('lines wait 50 ms for company, and go out together', () => {
    const end = { sentBytes: 0, receivedBytes: 0, failure: undefined };
    log.end(tunnelled(), end);
    log.end(tunnelled(), end);
    expect(written).toEqual([]);
    turnUntilWritten();
    expect(written.map((lines) => lines.split('\n').length - 1)).toEqual([2]);
  });

  it('lines that could not be written are tried again, with no connection to remind of them', () => {
    broken = true;
    log.end(tunnelled(), { sentBytes: 0, receivedBytes: 0, failure: undefined });
    for (const end = performance.now() + 120; performance.now() < end; ) reactor.turn(20);
    expect(written).toEqual([]);
    broken = false;
    turnUntilWritten();
    expect(written.length).toBe(1);
  });

  it('close() writes what waits', () => {
    log.end(tunnelled(), { sentBytes: 0, receivedBytes: 0, failure: undefined });
    log.close();
    expect(written.length).toBe(1);
  });

  it('without a decision log nobody wants explanations', () => {
    const plain = new ConnectionLog({ reactor, access: { write: () => {} }, wallClockMs: () => nowMs });
    expect([plain.wantsDecisions, log.wantsDecisions]).toEqual([false, true]);
    plain.end(plain.begin('outbound', source, destination), { sentBytes: 0, receivedBytes: 0, failure: undefined });
    plain.close();
  });
});
