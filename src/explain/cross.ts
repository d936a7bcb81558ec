import { openNetlink } from '../netlink/index.ts';
import { type ForwardingEntry, listForwardingEntries } from '../netlink/route/forwarding-database.ts';
import { type Link, listAddresses, listLinks, listNeighbours } from '../netlink/route/index.ts';
import { linkNamespaceIds } from '../netlink/route/namespace-id.ts';
import type { NetworkNamespace } from '../netns/index.ts';
import type { NamespaceFinder } from './find-namespace.ts';
import type { Passage } from './journey.ts';

/** A namespace on the way, and what it is called. */
export interface Place {
  readonly label: string;
  readonly namespace: NetworkNamespace;
}

/** Where a frame comes out. */
export type Crossed =
  | { readonly kind: 'arrives'; readonly place: Place; readonly device: string }
  /** A bridge passes it on, and its namespace's rules see it (bridge-nf-call-iptables); `port` is where it goes then. */
  | { readonly kind: 'bridged'; readonly place: Place; readonly bridge: string; readonly port: string }
  | { readonly kind: 'tunnel'; readonly place: Place; readonly link: TunnelLink }
  | { readonly kind: 'left'; readonly device: string; readonly what: string }
  | { readonly kind: 'lost'; readonly reason: string };

/** A link that puts frames into UDP. */
export type TunnelLink = Extract<Link, { kind: 'geneve' | 'vxlan' }>;

/** Who a frame is for. */
export interface Target {
  /** The next hop's address. */
  readonly ip: string;
  /** Its hardware address, where the sender knows it. */
  readonly address: string | undefined;
}

/** Links that a frame may cross before this library takes it for a loop. */
const MAX_CROSSINGS = 64;

/** Follows a frame from the device that sends it, over veth pairs and bridges, to where rules or routes come next. */
export function cross(
  from: Place,
  device: string,
  target: Target,
  finder: NamespaceFinder,
  passages: Passage[],
): Crossed {
  let place = from;
  let sending = device;
  for (let crossings = 0; crossings < MAX_CROSSINGS; crossings++) {
    const links = linksOf(place.namespace);
    const link = links.find(({ name }) => name === sending);
    if (link === undefined) return { kind: 'lost', reason: `${place.label} has no device ${sending}` };
    if (link.kind === 'bridge') {
      const port = portFor(place, link, links, target, finder);
      if (typeof port === 'string') return { kind: 'lost', reason: port };
      if (port.isOwn) return { kind: 'lost', reason: `${target.ip} is an address of ${place.label} itself` };
      passages.push({ kind: 'bridge', bridge: link.name, port: port.name, because: port.because });
      sending = port.name;
      continue;
    }
    if (link.kind === 'geneve' || link.kind === 'vxlan') return { kind: 'tunnel', place, link };
    if (link.kind !== 'veth') return { kind: 'left', device: sending, what: whatIs(link) };
    const peer = peerOf(place, link, links, finder);
    if (peer === undefined) {
      return {
        kind: 'lost',
        reason: `the other end of ${sending} is in a namespace without a name and without a process`,
      };
    }
    if (!peer.link.up)
      return { kind: 'lost', reason: `${peer.link.name} in ${peer.place.label}, the other end of ${sending}, is down` };
    passages.push({ kind: 'veth', device: sending, peer: peer.link.name, namespace: peer.place.label });
    place = peer.place;
    const own = linksOf(place.namespace);
    const master = own.find(({ name }) => name === peer.link.master);
    if (master?.kind !== 'bridge') return { kind: 'arrives', place, device: peer.link.name };
    const port = portFor(place, master, own, target, finder);
    if (typeof port === 'string') return { kind: 'lost', reason: port };
    if (port.isOwn) return { kind: 'arrives', place, device: master.name };
    passages.push({ kind: 'bridge', bridge: master.name, port: port.name, because: port.because });
    return { kind: 'bridged', place, bridge: master.name, port: port.name };
  }
  return { kind: 'lost', reason: `it crosses more than ${MAX_CROSSINGS} links` };
}

/** Who is asked for the next hop: what the sender's neighbour table says. */
export function targetOf({ namespace }: Place, device: string, ip: string): Target {
  using netlink = openNetlink({ family: 'route', namespace });
  const neighbour = listNeighbours(netlink, { device }).find((one) => one.ip === ip && one.state !== 'failed');
  return { ip, address: neighbour?.address };
}

interface Port {
  readonly name: string;
  /** The bridge itself is meant. */
  readonly isOwn: boolean;
  readonly because: 'forwarding table' | 'address';
}

/** The port behind which a bridge has the target, or why that cannot be told. */
function portFor(
  place: Place,
  bridge: Link,
  links: readonly Link[],
  target: Target,
  finder: NamespaceFinder,
): Port | string {
  using netlink = openNetlink({ family: 'route', namespace: place.namespace });
  const ports = links.filter(({ master }) => master === bridge.name);
  if (target.address !== undefined) {
    const { address } = target;
    const own = { name: bridge.name, isOwn: true, because: 'forwarding table' } as const;
    if (bridge.address === address) return own;
    const entries = listForwardingEntries(netlink).filter(
      (entry) => isOf(entry, bridge.name) && entry.address === address,
    );
    if (entries.some(({ isLocal }) => isLocal)) return own;
    const entry = entries.find((one) => ports.some(({ name }) => name === one.device));
    if (entry !== undefined) return { name: entry.device, isOwn: false, because: 'forwarding table' };
  }
  // Nobody has asked yet, or it was forgotten: whoever has the address will answer.
  if (listAddresses(netlink).some(({ ip }) => ip === target.ip))
    return { name: bridge.name, isOwn: true, because: 'address' };
  const behind = ports.filter((port) => {
    const peer = peerOf(place, port, links, finder);
    if (peer === undefined) return false;
    using there = openNetlink({ family: 'route', namespace: peer.place.namespace });
    return listAddresses(there).some(({ ip }) => ip === target.ip);
  });
  if (behind.length === 1) return { name: behind[0]!.name, isOwn: false, because: 'address' };
  return `behind which port of the bridge ${bridge.name} in ${place.label} ${target.ip} is`;
}

function isOf(entry: ForwardingEntry, bridge: string): boolean {
  return entry.bridge === bridge || entry.device === bridge;
}

/** The other end of a veth pair. */
function peerOf(
  place: Place,
  link: Link,
  links: readonly Link[],
  finder: NamespaceFinder,
): { place: Place; link: Link } | undefined {
  if (link.kind !== 'veth' || link.linkIndex === undefined) return undefined;
  using netlink = openNetlink({ family: 'route', namespace: place.namespace });
  const id = linkNamespaceIds(netlink).get(link.index);
  const there = id === undefined ? place : finder.find(place.namespace, id);
  if (there === undefined) return undefined;
  const own = id === undefined ? links : linksOf(there.namespace);
  const peer = own.find(({ index }) => index === link.linkIndex);
  return peer === undefined ? undefined : { place: there, link: peer };
}

/** The namespace that a tunnel's own packets are sent in: where it was made, wherever it has been moved. */
export function tunnelPlace(place: Place, link: TunnelLink, finder: NamespaceFinder): Place | undefined {
  using netlink = openNetlink({ family: 'route', namespace: place.namespace });
  const id = linkNamespaceIds(netlink).get(link.index);
  return id === undefined ? place : finder.find(place.namespace, id);
}

/** The links of a namespace. */
export function linksOf(namespace: NetworkNamespace): Link[] {
  using netlink = openNetlink({ family: 'route', namespace });
  return listLinks(netlink);
}

function whatIs(link: Link): string {
  if (link.kind !== 'other') return link.kind;
  return link.kernelKind === '' ? 'hardware' : link.kernelKind;
}
