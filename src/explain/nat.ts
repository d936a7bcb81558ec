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
  const isSource = kind === 'snat' || kind === 'masquerade';
  const ip = addressOf(expression, registers, state, view);
  if (ip === undefined) return `the address that ${kind} writes`;
  const portRegister = 'portRegister' in expression ? expression.portRegister : undefined;
  const written = portRegister === undefined ? undefined : networkNumber(registers.read(portRegister, 2));
  if (portRegister !== undefined && written === undefined) return `the port that ${kind} writes`;
  const before = isSource ? state.source : state.destination;
  const portBefore = isSource ? state.sourcePort : state.destinationPort;
  const keeps = ip === before && (written === undefined || written === portBefore);
  if (isSource) {
    state.source = ip;
    // The kernel keeps a port that nobody else has, and picks another where somebody has it.
    state.sourcePort = keeps ? portBefore : written;
    if (state.connection !== undefined) state.connection.sourceSettled = true;
  } else {
    state.destination = ip;
    state.destinationPort = written ?? portBefore;
    if (state.connection !== undefined) state.connection.destinationSettled = true;
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
  if (expression.type === 'masquerade') return firstAddress(view, state.outDevice, state.family);
  if (state.hook === 'output') return state.family === 4 ? '127.0.0.1' : '::1';
  return firstAddress(view, state.inDevice, state.family);
}

/** The address that the kernel takes for a device: the first one of global scope, the primary. */
function firstAddress({ addresses }: KernelView, device: string | undefined, family: 4 | 6): string | undefined {
  const own = addresses.filter((address) => address.device === device && address.family === family);
  return (own.find(({ scope }) => scope === undefined || scope === 'global') ?? own[0])?.ip;
}
