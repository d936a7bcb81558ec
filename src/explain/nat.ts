import { formatIp, ipFromBytes } from '../ip/index.ts';
import type { Expression } from '../netlink/nftables/index.ts';
import type { Effect } from './evaluate-rule.ts';
import type { KernelView } from './kernel-view.ts';
import type { PacketState } from './packet-state.ts';
import { isKnown, networkNumber, type Registers } from './registers.ts';

type NatEffect = Extract<Effect, { ip: string; keeps: boolean }>;

/** Rewrites the packet as a NAT statement does, and settles its connection; a reason where that cannot be told. */
export function networkAddressTranslation(
  expression: Extract<Expression, { type: 'nat' | 'redirect' | 'masquerade' }>,
  registers: Registers,
  state: PacketState,
  view: KernelView,
): NatEffect | string {
  const kind = expression.type === 'nat' ? expression.kind : expression.type;
  if (expression.type === 'nat' && !isOne(expression.addressRegister, expression.lastAddressRegister, registers)) {
    return `which address of its range ${kind} takes`;
  }
  const ip = addressOf(expression, registers, state, view);
  if (ip === undefined) return `the address that ${kind} writes`;
  const portRegister = 'portRegister' in expression ? expression.portRegister : undefined;
  if (expression.type === 'nat' && !isOne(portRegister, expression.lastPortRegister, registers, 2)) {
    return translate(kind, ip, 'one of several', state);
  }
  const written = portRegister === undefined ? undefined : networkNumber(registers.read(portRegister, 2));
  if (portRegister !== undefined && written === undefined) return `the port that ${kind} writes`;
  return translate(kind, ip, written, state);
}

function isOne(first: number | undefined, last: number | undefined, registers: Registers, length = 4): boolean {
  if (first === undefined || last === undefined) return true;
  const [from, to] = [registers.read(first, length), registers.read(last, length)];
  return isKnown(from) && from.every((byte, i) => byte === to[i]);
}

/**
 * Gives the packet and its connection another source or destination.
 *
 * @param port - undefined: it stays where it can
 */
export function translate(
  kind: NatEffect['kind'],
  ip: string,
  port: number | 'one of several' | undefined,
  state: PacketState,
): NatEffect {
  const isSource = kind === 'snat' || kind === 'masquerade';
  const before = isSource ? state.source : state.destination;
  const portBefore = isSource ? state.sourcePort : state.destinationPort;
  const keeps = ip === before && (port === undefined || port === portBefore);
  const written = port === 'one of several' ? undefined : port;
  if (isSource) {
    state.source = ip;
    // The kernel keeps a port that nobody else has, and picks another where somebody has it.
    state.sourcePort = keeps ? portBefore : written;
  } else {
    state.destination = ip;
    state.destinationPort = port === 'one of several' ? undefined : (port ?? portBefore);
  }
  const { connection } = state;
  if (connection !== undefined) {
    connection[isSource ? 'sourceSettled' : 'destinationSettled'] = true;
    connection[isSource ? 'sourceChanged' : 'destinationChanged'] = !keeps;
  }
  return { kind, ip, port: isSource ? state.sourcePort : state.destinationPort, keeps };
}

function addressOf(
  expression: Extract<Expression, { type: 'nat' | 'redirect' | 'masquerade' }>,
  registers: Registers,
  state: PacketState,
  view: KernelView,
): string | undefined {
  if (expression.type === 'nat') {
    if (expression.addressRegister === undefined) {
      return expression.kind === 'snat' ? state.source : state.destination;
    }
    const bytes = registers.read(expression.addressRegister, state.family === 4 ? 4 : 16);
    return isKnown(bytes) ? formatIp(ipFromBytes(Uint8Array.from(bytes))) : undefined;
  }
  return ownAddress(expression.type, state, view);
}

/** The address that `redirect` and `masquerade` take: one of this namespace. Undefined: it cannot be told. */
export function ownAddress(kind: 'redirect' | 'masquerade', state: PacketState, view: KernelView): string | undefined {
  if (kind === 'masquerade') return deviceAddress(view, state.outDevice, state.family);
  if (state.hook === 'output') return state.family === 4 ? '127.0.0.1' : '::1';
  return deviceAddress(view, state.inDevice, state.family);
}

/** The address that the kernel takes for a device: the first one of global scope, the primary. */
export function deviceAddress(
  { addresses }: KernelView,
  device: string | undefined,
  family: 4 | 6,
): string | undefined {
  const own = addresses.filter((address) => address.device === device && address.family === family);
  return (own.find(({ scope }) => scope === undefined || scope === 'global') ?? own[0])?.ip;
}
