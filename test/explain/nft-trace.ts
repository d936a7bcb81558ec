import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NetworkNamespace } from '../../src/netns/index.ts';
import { runIn } from '../support/namespaces.ts';

/** Of our own: sees every packet first and last, and is left out of every comparison. */
export const TRACE_TABLE = 'akt-trace';
const RULESET = `table inet ${TRACE_TABLE} {
  chain prerouting { type filter hook prerouting priority -400; meta nftrace set 1; }
  chain output { type filter hook output priority -400; meta nftrace set 1; }
  chain last-input { type filter hook input priority 400; counter; }
  chain last-postrouting { type filter hook postrouting priority 400; counter; }
}
`;

/** One packet's way as the kernel tells it. */
export interface TracedPacket {
  /** From the first `packet:` line: `ip saddr`, `tcp dport` and so on. */
  readonly fields: ReadonlyMap<string, string>;
  /** `<comment> <verdict>` of each rule that ended, but ours. */
  readonly rules: string[];
  dropped: boolean;
  /** The last chain of ours, and the packet as it was there. */
  last?: { readonly hook: 'input' | 'postrouting'; readonly fields: ReadonlyMap<string, string> };
}

/** `nft monitor trace` in one namespace: the kernel's own account (NFT_MSG_TRACE), by the real tool. */
export class NftTrace {
  readonly #child: ChildProcessByStdio<null, Readable, null>;
  readonly #packets: TracedPacket[] = [];
  readonly #underWay = new Map<string, TracedPacket>();
  readonly #namespace: NetworkNamespace;
  #rest = '';

  private constructor(namespace: NetworkNamespace) {
    this.#namespace = namespace;
    const environment = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin`, LC_ALL: 'C' };
    this.#child = namespace.run(() =>
      spawn('stdbuf', ['-oL', 'nft', 'monitor', 'trace'], { stdio: ['ignore', 'pipe', 'inherit'], env: environment }),
    );
    this.#child.stdout.setEncoding('utf8').on('data', (text: string) => this.#read(text));
  }

  static async open(namespace: NetworkNamespace): Promise<NftTrace> {
    const script = `nft -f - <<'END'\n${RULESET}END\n`;
    runIn(namespace, 'sh', '-c', script);
    const trace = new NftTrace(namespace);
    for (let attempt = 0; trace.#packets.length === 0; attempt++) {
      if (attempt === 100) throw new Error('nft monitor trace says nothing');
      runIn(namespace, 'bash', '-c', 'echo x > /dev/udp/127.0.0.1/9');
      await sleep(50);
    }
    return trace;
  }

  /** Everything so far, in order. */
  get packets(): readonly TracedPacket[] {
    return this.#packets;
  }

  /** Forgets everything so far. */
  clear(): void {
    this.#packets.length = 0;
    this.#underWay.clear();
  }

  /** The first packet with these fields that has come to an end, or all that came within a second. */
  async packet(fields: Readonly<Record<string, string>>): Promise<TracedPacket> {
    const wanted = Object.entries(fields);
    let found: TracedPacket | undefined;
    for (let attempt = 0; attempt < 60; attempt++) {
      const matching = this.#packets.filter((packet) =>
        wanted.every(([name, value]) => packet.fields.get(name) === value),
      );
      found = matching[0];
      // What leaves by the loopback comes back under another id.
      if (found?.last?.fields.get('oif') === 'lo') {
        const back = matching.find((packet) => packet.fields.get('iif') === 'lo');
        found = back === undefined ? undefined : { ...back, rules: [...found.rules, ...back.rules] };
      }
      if (found !== undefined && hasEnded(found)) return found;
      await sleep(20);
    }
    if (found === undefined) throw new Error(`no packet with ${JSON.stringify(fields)} was traced`);
    return found;
  }

  close(): void {
    this.#child.kill();
    runIn(this.#namespace, 'nft', 'delete', 'table', 'inet', TRACE_TABLE);
  }

  #read(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop()!;
    for (const line of lines) this.#line(line);
  }

  #line(line: string): void {
    const [, id, table, chain, what] = /^trace id (\w+) \w+ (\S+) (\S+) (.*)$/.exec(line) ?? [];
    if (id === undefined || table === undefined || chain === undefined || what === undefined) return;
    const isOurs = table === TRACE_TABLE;
    if (what.startsWith('packet:')) {
      const fields = fieldsOf(what);
      const begins = isOurs && !chain.startsWith('last-');
      let packet = this.#underWay.get(id);
      // The kernel makes the id of the memory that the packet lies in, which the next packet may get. What began before everything
      // was forgotten stays forgotten.
      if (begins && (packet === undefined || hasEnded(packet))) {
        packet = { fields, rules: [], dropped: false };
        this.#packets.push(packet);
        this.#underWay.set(id, packet);
      }
      if (packet === undefined) return;
      const hook = chain.replace('last-', '');
      if (isOurs && chain !== hook) packet.last = { hook: hook as 'input' | 'postrouting', fields };
      return;
    }
    const packet = this.#underWay.get(id);
    if (packet === undefined || isOurs) return;
    const verdict = /\(verdict (\w+)/.exec(what)?.[1];
    if (what.startsWith('rule ')) packet.rules.push(`${/comment "([^"]*)"/.exec(what)?.[1]} ${verdict}`);
    if (verdict === 'drop' || what.startsWith('policy drop')) packet.dropped = true;
  }
}

function hasEnded({ dropped, last }: TracedPacket): boolean {
  return dropped || last !== undefined;
}

function fieldsOf(text: string): Map<string, string> {
  const ip = ['ip saddr', 'ip daddr', 'ip6 saddr', 'ip6 daddr'];
  const names = ['iif', 'oif', ...ip, 'tcp sport', 'tcp dport', 'tcp flags ==', 'udp sport', 'udp dport'];
  return new Map(
    names.flatMap((name) => {
      const value = new RegExp(`(?:^| )${name} "?([^\\s"]+)`).exec(text)?.[1];
      return value === undefined ? [] : [[name, value] as const];
    }),
  );
}
