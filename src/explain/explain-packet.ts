import { canonicalIp } from '../ip/index.ts';
import { isLegacy } from '../netlink/nftables/legacy-table.ts';
import { IPPROTO_TCP, IPPROTO_UDP } from '../system/index.ts';
import { Chances, everyWay } from './chances.ts';
import { invalid } from './errors.ts';
import type { Ending, Explanation, FastPath, Step } from './explanation.ts';
import type { KernelView } from './kernel-view.ts';
import { checkPacket, type Packet } from './packet.ts';
import { PacketState } from './packet-state.ts';
import { lookUpRoute, type RouteAnswer } from './route-lookup.ts';
import { type HookEnd, type Walk, walkHook } from './walk-hook.ts';

const LOOPBACK = 'lo';
const MAX_WAYS = 16;

/** How {@link explainPacket} works. */
export interface ExplainPacketOptions {
  /** Ways that are told where the kernel throws dice. Default 16. */
  readonly maxWays?: number;
}

/**
 * What happens to a packet in one namespace: every rule it meets, where routing sends it, and how it ends. Pure: asks nothing but the
 * view, changes nothing. What cannot be judged is said, and ends the walk where it would decide.
 *
 * @throws {InvalidInputError} `ERR_EXPLAIN_INVALID` or `ERR_IP_ADDRESS`, naming the field of the packet
 */
export function explainPacket(view: KernelView, packet: Packet, options: ExplainPacketOptions = {}): Explanation {
  return explainFrom(view, packet, {}, options);
}

/** Where in the kernel the packet comes from, other than by a device or from a socket. */
export interface Origin {
  /** It is passed on by this bridge, whose namespace has bridge-nf-call-iptables. */
  readonly bridge?: string;
  /** A tunnel made it of another packet, whose mark it has: rules see it, routing does not. */
  readonly tunnelMark?: number | undefined;
}

/** {@link explainPacket} for packets that this library follows from namespace to namespace. */
export function explainFrom(
  view: KernelView,
  packet: Packet,
  origin: Origin,
  { maxWays = MAX_WAYS }: ExplainPacketOptions = {},
): Explanation {
  checkPacket(packet);
  if (!Number.isInteger(maxWays) || maxWays < 1) throw invalid('maxWays', `${maxWays} is no whole number from 1 on`);
  const own: Packet = {
    ...packet,
    source: canonicalIp(packet.source),
    destination: canonicalIp(packet.destination),
  };
  const { ways, isCut } = everyWay((chances) => explainWay(view, own, chances, origin), maxWays);
  const [first, ...otherwise] = ways as [Explanation, ...Explanation[]];
  const cut = `there are more ways by chance than the ${maxWays} that are told`;
  const caveats = isCut ? [...first.caveats, cut] : first.caveats;
  return { ...first, caveats, ...(otherwise.length === 0 ? {} : { otherwise }) };
}

function explainWay(view: KernelView, own: Packet, chances: Chances, origin: Origin): Explanation {
  const walker = new Walker(view, own, chances);
  const ending =
    origin.bridge !== undefined
      ? walker.bridged(origin.bridge)
      : own.device === undefined
        ? walker.made(origin.tunnelMark)
        : walker.arrived(own.device);
  const { state, steps } = walker;
  const fastPath = fastPathOf(view, own, state, steps);
  const probability = probabilityOf(steps);
  const { sourcePort, destinationPort, mark } = state;
  return {
    packet: own,
    steps,
    ending,
    source: state.source,
    ...(sourcePort === undefined ? {} : { sourcePort }),
    destination: state.destination,
    ...(destinationPort === undefined ? {} : { destinationPort }),
    ...(mark === undefined ? {} : { mark }),
    ...(fastPath === undefined ? {} : { fastPath }),
    ...(probability === undefined ? {} : { probability }),
    caveats: caveatsOf(view, steps),
  };
}

function caveatsOf({ unseen }: KernelView, steps: readonly Step[]): string[] {
  return [...unseen.map((what) => `not looked at, and may decide otherwise: ${what}`), ...tiesOf(steps)];
}

/** Places where a rule of iptables-legacy and one of nf_tables stand side by side: the one registered last goes first. */
function tiesOf(steps: readonly Step[]): string[] {
  const met = steps.filter((step) => step.kind === 'rule');
  const ties = met.filter((rule) => isLegacy(rule.table)).map(({ hook, priority }) => ({ hook, priority }));
  const tied = ties.filter(({ hook, priority }) =>
    met.some((other) => !isLegacy(other.table) && other.hook === hook && other.priority === priority),
  );
  const places = new Set(tied.map(({ hook, priority }) => `${hook} ${priority}`));
  return [...places].map(
    (place) => `at ${place}, rules of iptables-legacy and of nftables are both met: which go first cannot be seen`,
  );
}

/** Whether all of it was judged. */
export function isComplete({ ending, caveats, otherwise = [] }: Explanation): boolean {
  return ending.kind !== 'unknown' && caveats.length === 0 && otherwise.every(isComplete);
}

/** Undefined: nothing is left to chance, or nobody says how likely. */
function probabilityOf(steps: readonly Step[]): number | undefined {
  let product: number | undefined;
  for (const step of steps) {
    if (step.kind !== 'rule') continue;
    for (const effect of step.effects) {
      if (effect.kind !== 'chance') continue;
      if (effect.probability === undefined) return undefined;
      product = (product ?? 1) * effect.probability;
    }
  }
  return product;
}

class Walker implements Walk {
  readonly view: KernelView;
  readonly packet: Packet;
  readonly state: PacketState;
  readonly steps: Step[] = [];
  readonly chances: Chances;
  #out: { device: string | undefined; gateway: string | undefined; isLocal: boolean } | undefined;

  constructor(view: KernelView, packet: Packet, chances: Chances) {
    this.view = view;
    this.chances = chances;
    this.packet = packet;
    this.state = new PacketState(packet);
  }

  /** A packet from outside. */
  arrived(device: string): Ending {
    const end = walkHook(this, 'prerouting');
    return end.kind === 'accept' ? this.#routed(device) : endingOf(end);
  }

  /** A frame that a bridge passes on, where bridges call iptables: the hooks see it, routing only after a new destination. */
  bridged(bridge: string): Ending {
    const { state } = this;
    const { destination } = state;
    state.inDevice = bridge;
    const before = walkHook(this, 'prerouting');
    if (before.kind !== 'accept') return endingOf(before);
    if (state.destination !== destination) return this.#routed(bridge);
    state.outDevice = bridge;
    for (const hook of ['forward', 'postrouting'] as const) {
      const end = walkHook(this, hook);
      if (end.kind !== 'accept') return endingOf(end);
    }
    return { kind: 'bridged', device: bridge };
  }

  #routed(device: string): Ending {
    const { state } = this;
    const refused = this.#route('arrived', device) ?? this.#reversePath(device);
    if (refused !== undefined) return refused;
    const out = this.#out!;
    if (out.isLocal) return this.#input();
    const forwards = state.family === 6 ? this.view.forwarding6 : (this.view.devices[device]?.forwarding ?? false);
    if (!forwards) return { kind: 'dropped', reason: `forwarding is off for ${device}` };
    state.outDevice = out.device;
    const forwarded = walkHook(this, 'forward');
    if (forwarded.kind !== 'accept') return endingOf(forwarded);
    return this.#leave('forwarded');
  }

  /** A packet of one of the namespace's own sockets, or of a tunnel. */
  made(tunnelMark?: number): Ending {
    const refused = this.#route('made here', LOOPBACK);
    if (refused !== undefined) return refused;
    if (tunnelMark !== undefined) this.state.mark = tunnelMark;
    this.state.outDevice = this.#outDevice();
    const end = walkHook(this, 'output');
    if (end.kind !== 'accept') return endingOf(end);
    this.state.outDevice = this.#outDevice();
    if (!this.#out!.isLocal) return this.#leave('sent');
    const left = walkHook(this, 'postrouting');
    if (left.kind !== 'accept') return endingOf(left);
    // It keeps its mark, its connection and its route: the hooks see it again, routing does not.
    this.steps.push({ kind: 'loopback' });
    this.state.inDevice = LOOPBACK;
    this.state.outDevice = '';
    const back = walkHook(this, 'prerouting');
    return back.kind === 'accept' ? this.#input() : endingOf(back);
  }

  readonly reroute: Walk['reroute'] = ({ source, destination, mark }) => {
    const { state } = this;
    if (state.source === source && state.destination === destination && state.mark === mark) return undefined;
    const refused = this.#route('again', LOOPBACK);
    if (refused === undefined) return undefined;
    return refused.kind === 'unknown' ? refused : { kind: 'drop', reason: 'there is no route any more' };
  };

  #outDevice(): string | undefined {
    return this.#out!.isLocal ? LOOPBACK : this.#out!.device;
  }

  #input(): Ending {
    const { state, view } = this;
    state.outDevice = '';
    const end = walkHook(this, 'input');
    if (end.kind !== 'accept') return endingOf(end);
    if (state.tproxy !== undefined) {
      const { ip, port } = state.tproxy;
      return { kind: 'delivered', ...(ip === undefined ? {} : { ip }), port, tproxy: true, listening: true };
    }
    const { destination: ip, destinationPort: port, protocol } = state;
    const isNew = state.connection?.state !== 'established';
    const listening = view.listeners.some(
      (one) =>
        one.protocol === protocol &&
        one.port === port &&
        (one.ip === ip || one.ip === '::' || (one.ip === '0.0.0.0' && state.family === 4)),
    );
    return {
      kind: 'delivered',
      ip,
      ...(port === undefined ? {} : { port }),
      tproxy: false,
      ...(isNew && port !== undefined ? { listening } : {}),
    };
  }

  #leave(kind: 'forwarded' | 'sent'): Ending {
    const end = walkHook(this, 'postrouting');
    if (end.kind !== 'accept') return endingOf(end);
    const { device, gateway } = this.#out!;
    return { kind, ...(device === undefined ? {} : { device }), ...(gateway === undefined ? {} : { gateway }) };
  }

  #ask(device: string, turnedRound: boolean): RouteAnswer {
    const { state, view } = this;
    const { source, destination, sourcePort, destinationPort } = state;
    if (turnedRound) {
      const mark = view.devices[device]?.sourceValidMark ? state.mark : 0;
      return lookUpRoute(view, { family: state.family, source: destination, destination: source, mark, device });
    }
    const protocol = state.protocol === 'tcp' ? IPPROTO_TCP : IPPROTO_UDP;
    const ports = { sourcePort, destinationPort };
    return lookUpRoute(view, {
      family: state.family,
      source,
      destination,
      protocol,
      ...ports,
      mark: state.mark,
      device,
    });
  }

  /** @returns the ending where there is no way on */
  #route(
    why: 'arrived' | 'made here' | 'again',
    device: string,
  ): (Ending & { kind: 'dropped' | 'unknown' }) | undefined {
    const answer = this.#ask(device, false);
    if (answer.kind === 'none') return { kind: 'dropped', reason: 'no route leads there' };
    const named = `policy rule ${answer.rule.priority}`;
    if (answer.kind === 'unknown') return { kind: 'unknown', reason: `${named}: ${answer.reason}` };
    if (answer.kind === 'refused') return { kind: 'dropped', reason: `${named} leads to a route that refuses` };
    const { rule, route } = answer;
    const { mark } = this.state;
    this.steps.push({ kind: 'route', why, ...(mark === undefined ? {} : { mark }), rule, route });
    const isLocal = route.type !== 'unicast';
    this.#out = { device: route.device, gateway: route.gateway, isLocal };
    return undefined;
  }

  /** `fib_validate_source`: a source that cannot come in by this device. IPv6 has no such test. */
  #reversePath(device: string): Ending | undefined {
    const settings = this.view.devices[device];
    if (this.state.family === 6 || settings === undefined || device === LOOPBACK) return undefined;
    const { reversePathFilter, acceptLocal } = settings;
    const answer = this.#ask(device, true);
    const { source } = this.state;
    if (answer.kind === 'unknown') {
      return {
        kind: 'unknown',
        reason: `the way back to ${source}: policy rule ${answer.rule.priority}: ${answer.reason}`,
      };
    }
    if (answer.kind !== 'route') {
      if (answer.kind === 'none' && reversePathFilter === 0) return undefined;
      return { kind: 'dropped', reason: `no route leads back to ${source}` };
    }
    const { type, device: back } = answer.route;
    if (type === 'local' && acceptLocal) return undefined;
    if (type !== 'unicast') {
      return {
        kind: 'dropped',
        reason: `${source} is ${type === 'local' ? 'an address of this namespace (accept_local is 0)' : `a ${type} address`}`,
      };
    }
    if (reversePathFilter !== 1 || back === device) return undefined;
    return {
      kind: 'dropped',
      reason: `rp_filter is 1 on ${device}, and an answer to ${source} would leave by ${back ?? 'another device'}`,
    };
  }
}

function endingOf(end: Exclude<HookEnd, { kind: 'accept' }>): Ending {
  return { kind: end.kind === 'drop' ? 'dropped' : 'unknown', reason: end.reason };
}

/** What the connection's first packet would meet now that this one does not. */
function fastPathOf(
  view: KernelView,
  packet: Packet,
  { connection }: PacketState,
  steps: readonly Step[],
): FastPath | undefined {
  if (connection?.state !== 'established' || connection.entry === undefined || connection.direction === 'reply') {
    return undefined;
  }
  const first = explainWay(view, { ...packet, state: 'new' }, new Chances(), {});
  const met = namesOf(steps);
  const firstMet = namesOf(first.steps);
  return {
    firstRules: firstMet.length,
    rules: met.length,
    spared: firstMet.filter((name) => !met.includes(name)),
    firstEnding: first.ending,
  };
}

function namesOf(steps: readonly Step[]): string[] {
  return steps.flatMap((step) =>
    step.kind === 'rule' && step.verdict !== 'break' ? [step.comment ?? `${step.chain} handle ${step.handle}`] : [],
  );
}
