import { createHash, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { EngineMemory, type LegOwner, PipePool, Reactor, TcpLeg } from '../../src/engine/index.ts';
import { RELAY_ENDED, RELAY_FAILED, RELAY_IDLE, RELAY_MORE, RelayDirection } from '../../src/engine/relay-direction.ts';
import { libc, SHUT_WR } from '../../src/system/index.ts';
import { withoutDescriptors } from './descriptor-limit.ts';
import { receiveNow, resetSocket, sendAll, tcpPair } from './sockets.ts';
import { openDescriptors, turnUntil } from './turning.ts';

const memory = new EngineMemory();
let reactor: Reactor;
let pipes: PipePool;
let descriptors: number;
beforeEach(() => {
  descriptors = openDescriptors();
  reactor = new Reactor();
  pipes = new PipePool();
});
afterEach(() => {
  pipes.close();
  reactor.close();
  expect(openDescriptors()).toBe(descriptors);
});

/** writer → source leg → direction → destination leg → reader. */
class Line implements LegOwner {
  readonly writer: number;
  readonly reader: number;
  readonly source: TcpLeg;
  readonly destination: TcpLeg;
  readonly direction: RelayDirection;
  failed: string | undefined;

  constructor(options: { smallBuffers?: boolean } = {}) {
    const [writer, from] = tcpPair();
    const [to, reader] = tcpPair(options);
    this.writer = writer;
    this.reader = reader;
    this.source = new TcpLeg(reactor, memory, from, this, false);
    this.destination = new TcpLeg(reactor, memory, to, this, false);
    this.direction = new RelayDirection(this.source, this.destination, memory, pipes);
  }

  pump(): number {
    return this.failed === undefined ? this.direction.pump() : RELAY_FAILED;
  }

  onLegConnected(): void {}
  onLegReadable(leg: TcpLeg): void {
    if (leg === this.source) this.pump();
  }
  onLegDrained(): void {
    this.pump();
  }
  onLegWritable(leg: TcpLeg): void {
    if (leg === this.destination) this.pump();
  }
  onLegFailed(leg: TcpLeg): void {
    this.failed = leg === this.source ? 'source' : 'destination';
    // As a relay does: everything goes, in the middle of whatever the direction was doing.
    this.source.abort();
    this.destination.abort();
    this.direction.close();
  }

  close(): void {
    this.direction.close();
    this.source.close();
    this.destination.close();
    for (const fd of [this.writer, this.reader]) libc().close(fd);
  }
}

function hash(): { add: (data: Buffer) => void; bytes: () => number; digest: () => string } {
  const sha = createHash('sha256');
  let bytes = 0;
  return {
    add(data) {
      sha.update(data);
      bytes += data.length;
    },
    bytes: () => bytes,
    digest: () => sha.digest('hex'),
  };
}

/** Writes `data` as the socket takes it, then FIN. */
function writerOf(fd: number, data: Buffer) {
  let at = 0;
  let finished = false;
  return () => {
    while (at < data.length) {
      const count = libc().sendData(fd, data.subarray(at, at + (256 << 10)), Math.min(256 << 10, data.length - at), 0);
      if (count < 0) return;
      at += count;
    }
    if (!finished) libc().shutdown(fd, SHUT_WR);
    finished = true;
  };
}

describe('RelayDirection', () => {
  it('copies a message and holds no pipe', () => {
    const line = new Line();
    const before = openDescriptors();
    sendAll(line.writer, Buffer.from('a message'));
    let got: ReturnType<typeof receiveNow>;
    turnUntil(reactor, () => {
      got ??= receiveNow(line.reader);
      return got !== undefined;
    });
    expect(`${got}`).toBe('a message');
    expect(openDescriptors()).toBe(before);
    expect(line.direction.bytes).toBe(9);
    line.close();
  });

  it('takes a pipe while there is much to move, and gives it back after', () => {
    const line = new Line();
    const idle = openDescriptors();
    let most = 0;
    const data = randomBytes(8 << 20);
    const write = writerOf(line.writer, data);
    const received = hash();
    turnUntil(reactor, () => {
      write();
      for (let got = receiveNow(line.reader); Buffer.isBuffer(got) && got.length > 0; got = receiveNow(line.reader)) {
        received.add(got);
      }
      if (received.bytes() < data.length) line.pump();
      most = Math.max(most, openDescriptors());
      return line.direction.finished && received.bytes() === data.length;
    });
    expect(most).toBe(idle + 2);
    expect(received.digest()).toBe(createHash('sha256').update(data).digest('hex'));
    // Given back, not closed: it waits in the pool.
    expect(openDescriptors()).toBe(idle + 2);
    expect(line.direction.bytes).toBe(data.length);
    line.close();
  });

  it('brings any sizes through intact, from copying to splicing and back, whatever the pace of the reader', () => {
    // Sizes around what makes a direction take and give back its pipe: 64 KiB and 16 KiB.
    const size = fc.oneof(
      fc.integer({ min: 1, max: 2000 }),
      fc.integer({ min: 16_000, max: 17_000 }),
      fc.integer({ min: 65_000, max: 66_100 }),
      fc.integer({ min: 100_000, max: 2_000_000 }),
    );
    const step = fc.record({ size, readerRests: fc.nat(3), settle: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 5 }), fc.boolean(), (steps, smallBuffers) => {
        const line = new Line({ smallBuffers });
        const [sent, received] = [hash(), hash()];
        let total = 0;
        const read = () => {
          for (
            let got = receiveNow(line.reader);
            Buffer.isBuffer(got) && got.length > 0;
            got = receiveNow(line.reader)
          ) {
            received.add(got);
          }
        };
        for (const { size, readerRests, settle } of steps) {
          const data = randomBytes(size);
          sent.add(data);
          total += size;
          let at = 0;
          let rests = readerRests;
          turnUntil(reactor, () => {
            const count = libc().sendData(line.writer, data.subarray(at), size - at, 0);
            if (count > 0) at += count;
            line.pump();
            if (rests-- <= 0) read();
            return at === size && (!settle || received.bytes() === total);
          });
        }
        libc().shutdown(line.writer, SHUT_WR);
        turnUntil(reactor, () => {
          read();
          line.pump();
          return line.direction.finished && received.bytes() === total && line.destination.pendingBytes === 0;
        });
        expect(received.digest()).toBe(sent.digest());
        expect(line.direction.bytes).toBe(total);
        expect(line.direction.pump()).toBe(RELAY_ENDED);
        line.close();
      }),
      { numRuns: 25 },
    );
  });

  it('passes the end on after the last byte', () => {
    const line = new Line({ smallBuffers: true });
    const data = randomBytes(300_000);
    const write = writerOf(line.writer, data);
    const received: Buffer[] = [];
    turnUntil(reactor, () => {
      write();
      const got = receiveNow(line.reader, 4096);
      if (Buffer.isBuffer(got) && got.length > 0) received.push(got);
      return Buffer.isBuffer(got) && got.length === 0;
    });
    expect(Buffer.concat(received).equals(data)).toBe(true);
    line.close();
  });

  it('stops reading when the reader does not read', () => {
    const line = new Line();
    const write = writerOf(line.writer, Buffer.alloc(64 << 20));
    let bytes = -1;
    let sameTurns = 0;
    turnUntil(reactor, () => {
      write();
      line.pump();
      sameTurns = line.direction.bytes === bytes ? sameTurns + 1 : 0;
      bytes = line.direction.bytes;
      return sameTurns > 5;
    });
    expect(line.direction.pump()).toBe(RELAY_IDLE);
    // What a socket buffer, one pipe and one copied chunk hold.
    expect(bytes).toBeLessThan(16 << 20);
    line.close();
  });

  it('tells the reactor what it reads, copied or spliced: streams are told from messages by it', () => {
    const line = new Line();
    const told = vi.spyOn(reactor, 'tellRead');
    const write = writerOf(line.writer, randomBytes(4 << 20));
    turnUntil(reactor, () => {
      write();
      while (receiveNow(line.reader)?.length);
      line.pump();
      return line.direction.finished;
    });
    expect(told.mock.calls.reduce((sum, [bytes]) => sum + bytes, 0)).toBe(4 << 20);
    line.close();
  });

  it('lets others have their turn after two MiB', () => {
    const endless = { readable: true, open: true, read: () => 60_000 } as unknown as TcpLeg;
    const bottomless = { pendingBytes: 0, connecting: false, write: () => 60_000 } as unknown as TcpLeg;
    const direction = new RelayDirection(endless, bottomless, memory, pipes);
    expect(direction.pump()).toBe(RELAY_MORE);
    expect(direction.bytes).toBeGreaterThanOrEqual(2 << 20);
    expect(direction.bytes).toBeLessThan((2 << 20) + 60_000);
  });

  it('goes on copying when there is no descriptor for a pipe (EMFILE), and loses nothing', () => {
    const line = new Line();
    const data = randomBytes(1 << 20);
    const write = writerOf(line.writer, data);
    const received = hash();
    withoutDescriptors(() =>
      turnUntil(reactor, () => {
        write();
        const got = receiveNow(line.reader);
        if (Buffer.isBuffer(got)) received.add(got);
        line.pump();
        return line.direction.finished && received.bytes() === data.length;
      }),
    );
    expect(received.digest()).toBe(createHash('sha256').update(data).digest('hex'));
    line.close();
  });

  it.each([
    ['source', 'while copying', 1000],
    ['source', 'with bytes in the pipe', 4 << 20],
    ['destination', 'while copying', 1000],
    ['destination', 'with bytes in the pipe', 4 << 20],
  ] as const)('survives that the %s breaks %s, and closes its pipe', (which, _when, bytes) => {
    const line = new Line({ smallBuffers: bytes > 1000 });
    const write = writerOf(line.writer, Buffer.alloc(bytes));
    turnUntil(reactor, () => {
      write();
      line.pump();
      return line.direction.bytes >= Math.min(bytes, 100_000);
    });
    const fd = which === 'source' ? line.writer : line.reader;
    resetSocket(fd);
    if (which === 'destination' && bytes === 1000) sendAllIgnoring(line.writer);
    turnUntil(reactor, () => {
      line.pump();
      return line.failed !== undefined;
    });
    expect(line.failed).toBe(which);
    expect([line.source.open, line.destination.open]).toEqual([false, false]);
    libc().close(which === 'source' ? line.reader : line.writer);
  });
});

function sendAllIgnoring(fd: number): void {
  libc().sendData(fd, Buffer.from('more'), 4, 0);
}
