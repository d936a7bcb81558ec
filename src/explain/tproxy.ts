import type { KernelView } from './kernel-view.ts';
import type { PacketState } from './packet-state.ts';

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
