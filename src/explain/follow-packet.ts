import { parseIp } from '../ip/index.ts';
import { type NetworkNamespace, readSysctl } from '../netns/index.ts';
import {
  type Crossed,
  cross,
  linksOf,
  type Place,
  type Target,
  type TunnelLink,
  targetOf,
  tunnelPlace,
} from './cross.ts';
import { invalid } from './errors.ts';
import { explainFrom, type Origin } from './explain-packet.ts';
import type { Explanation } from './explanation.ts';
import { NamespaceFinder } from './find-namespace.ts';
import type { Hop, Journey, JourneyEnding, Passage } from './journey.ts';
import type { KernelView } from './kernel-view.ts';
import { deviceAddress } from './nat.ts';
import type { Packet } from './packet.ts';
import { readKernelView } from './read-kernel-view.ts';
import { lookUpRoute } from './route-lookup.ts';

const MAX_HOPS = 16;
const MAX_NAMESPACES = 1024;
/** UDP ports of tunnels that say none. */
const TUNNEL_PORTS = { geneve: 6081, vxlan: 4789 } as const;

/** How {@link followPacket} works. */
export interface FollowOptions {
  /** What the first namespace is called. Default: its name, or `this namespace`. */
  readonly label?: string;
  /** Which way is followed where the kernel throws dice, from 1; the first where there are not as many. Default 1. */
  readonly way?: number;
  /** Looks at rules and routes, each bridge that shows a packet to iptables among them. Default 16. */
  readonly maxHops?: number;
  /** Namespaces that are looked at for the other end of a link. Default 1024. */
  readonly maxNamespaces?: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * {@link explainPacket}, and on through the namespaces of this machine: over veth pairs, bridges, and Geneve and VXLAN tunnels, each
 * with the rules and routes that it has, until the packet is delivered or dropped, leaves the machine, or cannot be followed. Where
 * the kernel throws dice, one way is followed. Reads only.
 *
 * @param packet - as {@link explainPacket} takes it, in `namespace`, which stays the caller's
 * @throws as {@link readKernelView}, and InvalidInputError `ERR_EXPLAIN_INVALID` for an option
 */
export function followPacket(namespace: NetworkNamespace, packet: Packet, options: FollowOptions = {}): Journey {
  const { way = 1, maxHops = MAX_HOPS, maxNamespaces = MAX_NAMESPACES, signal } = options;
  for (const [field, value] of Object.entries({ way, maxHops, maxNamespaces })) {
    if (!Number.isInteger(value) || value < 1) throw invalid(field, `${value} is no whole number from 1 on`);
  }
  using finder = new NamespaceFinder(maxNamespaces);
  const journey = new Following(finder, { way, maxHops, signal });
  const start = { label: options.label ?? namespace.name ?? 'this namespace', namespace };
  const ending = journey.go(start, packet, {}, 0);
  const { hops } = journey;
  return { hops, ending, last: hops.at(-1)!.explanation.ending };
}

/** A hop, and where it is. */
interface Stop {
  readonly place: Place;
  readonly tunnels: number;
  readonly explanation: Explanation;
  readonly passages: Passage[];
}

interface Settings {
  readonly way: number;
  readonly maxHops: number;
  readonly signal: AbortSignal | undefined;
}

class Following {
  readonly #stops: Stop[] = [];
  readonly #finder: NamespaceFinder;
  readonly #way: number;
  readonly #maxHops: number;
  readonly #signal: AbortSignal | undefined;

  constructor(finder: NamespaceFinder, { way, maxHops, signal }: Settings) {
    this.#finder = finder;
    this.#way = way;
    this.#maxHops = maxHops;
    this.#signal = signal;
  }

  get hops(): Hop[] {
    return this.#stops.map(({ place, ...hop }) => ({ namespace: place.label, ...hop }));
  }

  go(start: Place, first: Packet, from: Origin, tunnels: number): JourneyEnding {
    let place = start;
    let packet = first;
    let origin = from;
    /** Of a frame that a bridge shows to its rules: where it goes on, and to whom. */
    let frame: { readonly port: string; readonly target: Target } | undefined;
    for (;;) {
      this.#signal?.throwIfAborted();
      if (this.#stops.length === this.#maxHops) {
        return { kind: 'lost', reason: `it goes on, but only ${this.#maxHops} looks at rules and routes are told` };
      }
      const view = readKernelView(place.namespace, { packet, signal: this.#signal });
      const explanation = chosen(explainFrom(view, packet, origin), this.#way);
      const passages: Passage[] = [];
      this.#stops.push({ place, tunnels, explanation, passages });
      const { ending, destination } = explanation;
      let device: string | undefined;
      let target: Target;
      if (ending.kind === 'bridged') {
        if (frame === undefined) return { kind: 'settled' };
        ({ port: device, target } = frame);
      } else if (ending.kind === 'forwarded' || ending.kind === 'sent') {
        ({ device } = ending);
        if (device === undefined) return { kind: 'lost', reason: 'it leaves by one of several devices' };
        target = targetOf(place, device, ending.gateway ?? destination);
      } else {
        return { kind: 'settled' };
      }
      const crossed = this.#cross(place, device, target, passages);
      if (crossed.kind === 'left' || crossed.kind === 'lost') return crossed;
      frame = undefined;
      origin = {};
      if (crossed.kind === 'tunnel') {
        const end = this.#tunnel(crossed.place, crossed.link, explanation, tunnels, passages);
        if (end.kind !== 'taken out') return end;
        ({ place } = end);
        packet = onward(explanation, packet, end.device, end.mark);
        continue;
      }
      // skb_scrub_packet: a mark does not go from one namespace to another.
      const hasLeft = passages.some((one) => one.kind === 'veth' && one.namespace !== place.label);
      const mark = hasLeft ? 0 : (explanation.mark ?? 0);
      ({ place } = crossed);
      if (crossed.kind === 'bridged') {
        packet = onward(explanation, packet, crossed.bridge, mark);
        origin = { bridge: crossed.bridge };
        frame = { port: crossed.port, target };
      } else {
        packet = onward(explanation, packet, crossed.device, mark);
      }
    }
  }

  /** A bridge that shows nothing to iptables is no hop. */
  #cross(place: Place, device: string, target: Target, passages: Passage[]): Crossed {
    let crossed = cross(place, device, target, this.#finder, passages);
    for (let bridges = 0; crossed.kind === 'bridged' && bridges < this.#maxHops; bridges++) {
      if (showsIptables(crossed.place, target.ip)) break;
      crossed = cross(crossed.place, crossed.port, target, this.#finder, passages);
    }
    return crossed;
  }

  /** Follows the tunnel's own packet to where it is taken out again. */
  #tunnel(
    place: Place,
    link: TunnelLink,
    { mark }: Explanation,
    tunnels: number,
    passages: Passage[],
  ): TakenOut | JourneyEnding {
    const { remote, kind, id } = link;
    if (remote === undefined) return { kind: 'left', device: link.name, what: 'a vxlan that looks up where to send' };
    const outside = tunnelPlace(place, link, this.#finder);
    if (outside === undefined) {
      return { kind: 'lost', reason: `the namespace that ${link.name} sends in has no name and no process` };
    }
    passages.push({ kind: 'tunnel', device: link.name, protocol: kind, id });
    const port = portOf(link);
    const view = readKernelView(outside.namespace);
    const source = (kind === 'vxlan' ? link.local : undefined) ?? sourceFor(view, remote);
    if (source === undefined) {
      return { kind: 'lost', reason: `no route of ${outside.label} leads to ${remote}, where ${link.name} sends` };
    }
    const packet: Packet = { source, destination: remote, protocol: 'udp', destinationPort: port, state: 'new' };
    const keepsMark = outside.namespace.inode === place.namespace.inode;
    const end = this.go(outside, packet, keepsMark ? { tunnelMark: mark } : {}, tunnels + 1);
    const last = this.#stops.at(-1)!;
    if (end.kind !== 'settled' || last.explanation.ending.kind !== 'delivered') return end;
    const there = last.place;
    const taken = linksOf(there.namespace).find(
      (other) =>
        other.kind === kind && other.id === id && portOf(other) === port && (other.remote ?? source) === source,
    );
    if (taken === undefined) {
      return { kind: 'lost', reason: `${there.label} has no ${kind} device for the tunnel ${id} from ${source}` };
    }
    last.passages.push({ kind: 'tunnel-end', device: taken.name, namespace: there.label });
    return { kind: 'taken out', place: there, device: taken.name, mark: last.explanation.mark ?? 0 };
  }
}

/** The same with another way in front, and nothing changed where there is none of that number. */
function chosen(first: Explanation, way: number): Explanation {
  const { otherwise = [], ...rest } = first;
  const taken = otherwise[way - 2];
  if (taken === undefined) return first;
  return { ...taken, caveats: first.caveats, otherwise: [rest, ...otherwise.filter((other) => other !== taken)] };
}

interface TakenOut {
  readonly kind: 'taken out';
  readonly place: Place;
  readonly device: string;
  readonly mark: number;
}

function portOf(link: TunnelLink): number {
  return link.port ?? TUNNEL_PORTS[link.kind];
}

/** What a tunnel's own packets have as their source: what the route says, else the address of its device. */
function sourceFor(view: KernelView, remote: string): string | undefined {
  const { family } = parseIp(remote);
  const source = family === 4 ? '0.0.0.0' : '::';
  const answer = lookUpRoute(view, { family, source, destination: remote, mark: 0, device: 'lo' });
  if (answer.kind !== 'route') return undefined;
  const { route } = answer;
  if (route.type === 'local') return remote;
  return route.source ?? deviceAddress(view, route.device, family);
}

/** The packet as the next namespace gets it. */
function onward(explanation: Explanation, before: Packet, device: string, mark: number): Packet {
  const { source, destination, sourcePort, destinationPort } = explanation;
  const { protocol, state } = before;
  return {
    source,
    destination,
    protocol,
    device,
    ...(mark === 0 ? {} : { mark }),
    ...(sourcePort === undefined ? {} : { sourcePort }),
    ...(destinationPort === undefined ? {} : { destinationPort }),
    ...(state === undefined ? {} : { state }),
  };
}

function showsIptables({ namespace }: Place, ip: string): boolean {
  const name = parseIp(ip).family === 4 ? 'bridge-nf-call-iptables' : 'bridge-nf-call-ip6tables';
  try {
    return readSysctl(namespace, `net.bridge.${name}`) === '1';
  } catch {
    // The kernel has no br_netfilter.
    return false;
  }
}
