import { parseArgs } from 'node:util';
import { AmbientError, InvalidInputError } from '../errors/index.ts';
import {
  explainPacket,
  type FollowOptions,
  followPacket,
  formatExplanation,
  formatJourney,
  incomingDevice,
  isComplete,
  isWhole,
  type KernelView,
  type Packet,
  readKernelView,
} from '../explain/index.ts';
import { tryParseIp, tryParseSocketAddress } from '../ip/index.ts';
import { currentNamespace, type NetworkNamespace, openNamespace } from '../netns/index.ts';
import { UsageError } from './usage-error.ts';

export const EXPLAIN_HELP = `Usage: ambient explain --from IP[:PORT] --to IP[:PORT] [options]

What happens to this packet? Walks the rules (nftables, iptables, iptables-legacy), policy rules, routes, sets and
connections of a namespace as the kernel has them now, and prints what decides, one line a step: where in the kernel,
which rule or route, and what it does, with what its counter says in parentheses. Where the kernel throws dice (a
service with several endpoints), every way is told. Sends nothing, changes nothing.

  --from IP[:PORT], --to IP[:PORT]   of the packet as it arrives, or as its socket sends it; [IP]:PORT for IPv6. Without
                                     a port, a rule that asks for it cannot be judged
  --netns NAME                       a name under /run/netns or an absolute path, such as /proc/PID/ns/net
                                     (default: the namespace this runs in)
  --proto tcp|udp                    (default: tcp)
  --in DEVICE                        the device it comes in by; "none" for a packet of a socket in the namespace
                                     (default: none for an address of the namespace, else where its route leads)
  --follow                           goes on in the next namespace where it leaves by a veth pair, a bridge or a tunnel,
                                     until it is delivered, dropped, or leaves the machine
  --way N                            of --follow: which way to go where the kernel throws dice (default: 1, the first)
  --uid N, --gid N                   user and group of the socket that sends it, for rules that ask (default: unknown)
  --mark M                           the packet mark to begin with, 0x400 or 1024 (default: 0)
  --state new|established            (default: what the connection tracking table says, else new)
  --ct-mark M                        the connection mark, for an established connection that is not in the table
  --json                             one JSON document on standard output
  --help                             this text

Exit: 0 explained, whatever becomes of the packet; 1 something that decides cannot be judged (the last line says what),
or the kernel refused to tell; 2 bad usage. Needs root.
`;

interface ExplainOptions {
  readonly namespace: string | undefined;
  readonly packet: Packet;
  /** No device was given. */
  readonly findDevice: boolean;
  readonly json: boolean;
  readonly follow: boolean;
  readonly way: number | undefined;
}

/**
 * `ambient explain`. Results on standard output.
 *
 * @returns the exit code: 0 explained, 1 cannot tell
 * @throws {UsageError} exit code 2
 */
export async function explainCommand(args: string[]): Promise<number> {
  const options = parseExplainOptions(args);
  if (options === undefined) {
    process.stdout.write(EXPLAIN_HELP);
    return 0;
  }
  if (process.getuid?.() !== 0) {
    throw new UsageError('ambient explain asks the kernel as root only: run it again with sudo');
  }
  using namespace = open(options.namespace);
  const view = usage(() => readKernelView(namespace, { packet: options.packet }));
  const packet = options.findDevice ? found(view, options.packet) : options.packet;
  if (packet.device !== undefined && !view.links.some(({ name }) => name === packet.device)) {
    throw new UsageError(`ambient explain: --in: there is no device ${JSON.stringify(packet.device)}`);
  }
  if (options.follow) {
    const journey = usage(() => followPacket(namespace, packet, followOptions(options)));
    process.stdout.write(options.json ? `${JSON.stringify(journey)}\n` : formatJourney(journey));
    return isWhole(journey) ? 0 : 1;
  }
  const explanation = usage(() => explainPacket(view, packet));
  process.stdout.write(options.json ? `${JSON.stringify(explanation)}\n` : formatExplanation(explanation));
  return isComplete(explanation) ? 0 : 1;
}

function parseExplainOptions(args: string[]): ExplainOptions | undefined {
  const text = { type: 'string' } as const;
  const flag = { type: 'boolean', default: false } as const;
  const { values } = parseArgs({
    args,
    strict: true,
    options: {
      help: { ...flag, short: 'h' },
      json: flag,
      follow: flag,
      way: text,
      uid: text,
      gid: text,
      netns: text,
      from: text,
      to: text,
      proto: text,
      in: text,
      mark: text,
      'ct-mark': text,
      state: text,
    },
  });
  if (values.help) return undefined;
  const { from, to, proto = 'tcp', state } = values;
  if (from === undefined || to === undefined) throw new UsageError('ambient explain: --from and --to are needed');
  if (proto !== 'tcp' && proto !== 'udp') throw new UsageError('ambient explain: --proto is tcp or udp');
  if (state !== undefined && state !== 'new' && state !== 'established') {
    throw new UsageError('ambient explain: --state is new or established');
  }
  const source = endpoint('from', from);
  const destination = endpoint('to', to);
  const mark = markOf('mark', values.mark);
  const connectionMark = markOf('ct-mark', values['ct-mark']);
  const user = markOf('uid', values.uid);
  const group = markOf('gid', values.gid);
  const packet: Packet = {
    source: source.ip,
    destination: destination.ip,
    protocol: proto,
    ...(source.port === undefined ? {} : { sourcePort: source.port }),
    ...(destination.port === undefined ? {} : { destinationPort: destination.port }),
    ...(values.in === undefined || values.in === 'none' ? {} : { device: values.in }),
    ...(mark === undefined ? {} : { mark }),
    ...(state === undefined ? {} : { state }),
    ...(user === undefined ? {} : { user }),
    ...(group === undefined ? {} : { group }),
    ...(connectionMark === undefined ? {} : { connectionMark }),
  };
  const { netns: namespace, json, follow } = values;
  const way = markOf('way', values.way);
  if (way === 0) throw new UsageError('ambient explain: --way: the first way is 1');
  if (way !== undefined && !follow) throw new UsageError('ambient explain: --way is for --follow');
  return { namespace, packet, findDevice: values.in === undefined, json, follow, way };
}

function endpoint(option: string, text: string): { ip: string; port?: number } {
  const bare = text.replace(/^\[(.*)\]$/, '$1');
  const parsed = tryParseIp(bare) === undefined ? tryParseSocketAddress(text) : { ip: bare };
  if (parsed === undefined) {
    throw new UsageError(`ambient explain: --${option}: ${JSON.stringify(text)} is not IP, IP:PORT or [IP]:PORT`);
  }
  return parsed;
}

function markOf(option: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const mark = /^(0x[\da-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN;
  if (mark <= 0xffff_ffff) return mark;
  throw new UsageError(`ambient explain: --${option}: ${JSON.stringify(text)} is no 32-bit number`);
}

function found(view: KernelView, packet: Packet): Packet {
  const device = incomingDevice(view, packet.source);
  return device === undefined ? packet : { ...packet, device };
}

function followOptions({ namespace, way }: ExplainOptions): FollowOptions {
  return { ...(namespace === undefined ? {} : { label: namespace }), ...(way === undefined ? {} : { way }) };
}

function open(name: string | undefined): NetworkNamespace {
  try {
    return name === undefined ? currentNamespace() : openNamespace(name);
  } catch (error) {
    if (AmbientError.is(error)) throw new UsageError(`ambient explain: ${error.message}`);
    throw error;
  }
}

/** The packet is what the user typed. */
function usage<T>(act: () => T): T {
  try {
    return act();
  } catch (error) {
    if (error instanceof InvalidInputError) throw new UsageError(`ambient explain: ${error.message}`);
    throw error;
  }
}
