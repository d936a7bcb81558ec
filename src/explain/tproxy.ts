import { formatIp, ipFromBytes } from '../ip/index.ts';
import type { Expression } from '../netlink/nftables/index.ts';
import type { KernelView } from './kernel-view.ts';
import type { PacketState } from './packet-state.ts';
import { isKnown, networkNumber, type Registers } from './registers.ts';

/** Where TPROXY leads: a listener, nothing where there is none, or a doubt. */
export type Listened =
  | { readonly ip: string | undefined; readonly port: number }
  | { readonly doubt: string }
  | undefined;

/** @param ip - undefined: the address of the device the packet came in by */
export function findListener(
  ip: string | undefined,
  port: number,
  state: PacketState,
  { listeners }: KernelView,
): Listened {
  const candidates = listeners.filter((one) => one.port === port && one.protocol === state.protocol);
  const any = candidates.some((one) => one.ip === '::' || (one.ip === '0.0.0.0' && state.family === 4));
  if (any || (ip !== undefined && candidates.some((one) => one.ip === ip))) return { ip, port };
  if (ip === undefined && candidates.length > 0) return { doubt: 'which address of the device tproxy takes' };
  // A socket of this very connection would do as well.
  if (state.connection !== undefined && state.connection.state !== 'new') {
    return { doubt: 'whether a socket has this connection' };
  }
  return undefined;
}

/** nftables' tproxy: the listener a packet is given to, nothing where there is none. */
export function tproxyTo(
  { addressRegister, portRegister }: Extract<Expression, { type: 'tproxy' }>,
  registers: Registers,
  state: PacketState,
  view: KernelView,
): Listened {
  const length = state.family === 4 ? 4 : 16;
  const bytes = addressRegister === undefined ? undefined : registers.read(addressRegister, length);
  const port = portRegister === undefined ? state.destinationPort : networkNumber(registers.read(portRegister, 2));
  if (port === undefined || (bytes !== undefined && !isKnown(bytes))) return { doubt: 'where tproxy leads' };
  const ip = bytes === undefined ? undefined : formatIp(ipFromBytes(Uint8Array.from(bytes)));
  return findListener(ip, port, state, view);
}
