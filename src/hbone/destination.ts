import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Authority } from './authority.ts';
import { HboneError, invalidInput } from './hbone-error.ts';

/** The port of HBONE (facts section 2.1). */
export const HBONE_PORT = 15008;

/** Where a tunnel is dialled to. */
export interface Destination {
  /** IP address or host name of a workload, waypoint or gateway. */
  readonly host: string;
  readonly port: number;
  /** The address to dial from. Tunnels from different ones are not shared. */
  readonly localAddress?: string | undefined;
}

/** Makes the connection that TLS runs over, and gives up when `signal` is aborted. What it gives is owned by the tunnel. */
export type Dial = (destination: Destination, signal: AbortSignal) => Promise<Duplex>;

/** TCP by `node:net`. `connect` of `ambient-kit/socket` does the same with a mark, in a namespace, or from a foreign address. */
export const dialTcp: Dial = ({ host, port, localAddress }, signal) =>
  new Promise((resolve, reject) => {
    const socket = connect({
      host,
      port,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: KEEPALIVE_MS,
      localAddress,
    });
    const onAbort = (): void => fail(signal.reason);
    const fail = (error: unknown): void => {
      signal.removeEventListener('abort', onAbort);
      socket.on('error', () => {}).destroy();
      reject(error);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    socket.once('error', fail);
    socket.once('connect', () => {
      signal.removeEventListener('abort', onAbort);
      socket.off('error', fail);
      resolve(socket);
    });
  });

// Facts section 1.9.
const KEEPALIVE_MS = 180_000;

/** The given parts of a destination; the rest of it from where the stream leads to: the same host, HBONE's port. */
export function resolveDestination(
  op: string,
  given: Partial<Destination> | undefined,
  authority: Authority,
): Destination {
  const host = given?.host ?? (authority.kind === 'address' ? authority.ip : authority.hostname);
  const port = given?.port ?? HBONE_PORT;
  if (typeof host !== 'string' || host === '') throw invalidInput(op, 'destination.host', 'must not be empty');
  if (!Number.isInteger(port) || port < 1 || port > 65535) {
    throw invalidInput(op, 'destination.port', 'must be a whole number from 1 to 65535');
  }
  return { host, port, localAddress: given?.localAddress };
}

/** `10.0.0.1:15008`, for messages. */
export function destinationText({ host, port }: Destination): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Runs `dial`; what it throws becomes the cause of `ERR_HBONE_CONNECT`. */
export async function dialOrExplain(dial: Dial, destination: Destination, signal: AbortSignal): Promise<Duplex> {
  try {
    return await dial(destination, signal);
  } catch (cause) {
    if (signal.aborted) throw signal.reason;
    const why = cause instanceof Error ? cause.message : String(cause);
    const message = `no connection to ${destinationText(destination)}: ${why}`;
    throw new HboneError({ code: 'ERR_HBONE_CONNECT', op: 'hbone.connect', message, cause });
  }
}
