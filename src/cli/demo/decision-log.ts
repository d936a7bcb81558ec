import { closeSync, openSync, readSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** What a proxy writes about a connection when it ends: AMBIENT_DECISION_LOG. */
export interface DecisionRecord {
  readonly time: string;
  readonly direction: 'outbound' | 'inbound' | 'inbound-plaintext';
  readonly source: string;
  readonly originalDestination: string;
  readonly decision: { readonly kind: string; readonly [key: string]: unknown };
  readonly rbac?: { readonly allowed: boolean; readonly reason?: unknown; readonly explanation?: unknown };
  readonly tunnel?: {
    readonly localIdentity?: string;
    readonly peerIdentity?: string;
    readonly tls?: string;
    readonly authority?: string;
  };
  readonly dialled?: string;
  readonly dialledFrom?: string;
  readonly bytesSent?: number;
  readonly bytesReceived?: number;
  readonly failure?: string;
}

const WAIT_MS = 2_000;
const POLL_MS = 5;

/** Reads a proxy's decision log as it grows. */
export class DecisionLog {
  readonly #path: string;
  #position = 0;
  #rest = '';
  readonly #unread: DecisionRecord[] = [];

  constructor(path: string) {
    this.#path = path;
  }

  /** Passes over what was written so far. */
  skip(): void {
    this.#read();
    this.#unread.length = 0;
  }

  /** The first record since {@link skip} that `wanted` says yes to; undefined where none came within 2 s. */
  async find(wanted: (record: DecisionRecord) => boolean, signal: AbortSignal): Promise<DecisionRecord | undefined> {
    const deadline = performance.now() + WAIT_MS;
    for (;;) {
      this.#read();
      const at = this.#unread.findIndex(wanted);
      if (at >= 0) return this.#unread.splice(at, 1)[0];
      if (performance.now() > deadline) return undefined;
      await sleep(POLL_MS, undefined, { signal });
    }
  }

  #read(): void {
    let fd: number;
    try {
      fd = openSync(this.#path, 'r');
    } catch (error) {
      // Made with the first connection.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      throw error;
    }
    try {
      const chunk = Buffer.alloc(64 << 10);
      for (let count = 1; count > 0; ) {
        count = readSync(fd, chunk, 0, chunk.length, this.#position);
        this.#position += count;
        this.#rest += chunk.toString('latin1', 0, count);
      }
    } finally {
      closeSync(fd);
    }
    const lines = this.#rest.split('\n');
    this.#rest = lines.pop()!;
    for (const line of lines) if (line !== '') this.#unread.push(JSON.parse(Buffer.from(line, 'latin1').toString()));
  }
}
