import { InvalidInputError } from '../errors/index.ts';
import { formatIp, type IpAddress, parseIp } from '../ip/index.ts';
import type { ConnectingOptions, KeepAlive, ListenerOptions } from './options.ts';

const KEEP_ALIVE_DEFAULT_MS = 180_000;
const KEEP_ALIVE_DEFAULT_PROBES = 9;
export const BACKLOG_DEFAULT = 128;
/** TCP_KEEPIDLE and TCP_KEEPINTVL go to 32767 seconds, TCP_KEEPCNT to 127 (include/net/tcp.h, MAX_TCP_KEEP…). */
const KEEP_ALIVE_MAX_MS = 32_767_000;
const KEEP_ALIVE_MAX_PROBES = 127;

/** The options with every default in place and every number in range, so that nothing is half made when one is not. */
export interface CheckedSocket {
  readonly ip: IpAddress;
  readonly host: string;
  readonly port: number;
  readonly mark: number | undefined;
  /** As TCP_CONGESTION takes it. */
  readonly congestionControl: Buffer | undefined;
}

export interface CheckedListener extends CheckedSocket {
  readonly backlog: number;
}

export interface CheckedConnecting extends CheckedSocket {
  readonly source: { readonly ip: string; readonly port: number } | undefined;
  /** As IP_LOCAL_PORT_RANGE wants it: the upper end in the high half. */
  readonly localPortRange: number | undefined;
  /** In seconds. */
  readonly keepAlive: { readonly idle: number; readonly interval: number; readonly probes: number } | undefined;
}

export function checkListener(options: ListenerOptions): CheckedListener {
  return {
    ...checkSocket(options),
    backlog: integer('backlog', options.backlog ?? BACKLOG_DEFAULT, 1, 0x7fffffff),
  };
}

export function checkConnecting(options: ConnectingOptions): CheckedConnecting {
  const checked = checkSocket(options);
  integer('port', checked.port, 1, 0xffff);
  let source: CheckedConnecting['source'];
  if (options.source !== undefined) {
    const ip = address(options.source.ip, 'source.ip');
    if (ip.family !== checked.ip.family) {
      throw invalid('source.ip', `${formatIp(ip)} is IPv${ip.family}, the destination ${checked.host} is not`);
    }
    source = { ip: formatIp(ip), port: integer('source.port', options.source.port ?? 0, 0, 0xffff) };
  }
  return {
    ...checked,
    source,
    localPortRange: options.localPortRange === undefined ? undefined : portRange(options.localPortRange),
    keepAlive: options.keepAlive ? keepAlive(options.keepAlive === true ? {} : options.keepAlive) : undefined,
  };
}

/** Gives `value` back. @throws {InvalidInputError} `ERR_SOCKET_INVALID` unless it is a whole number in the range */
export function integer(field: string, value: number, least: number, most: number): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw invalid(field, `${String(value)} is not a whole number from ${least} to ${most}`);
}

function checkSocket(options: ListenerOptions | ConnectingOptions): CheckedSocket {
  const ip = address(options.host, 'host');
  return {
    ip,
    host: formatIp(ip),
    port: integer('port', options.port, 0, 0xffff),
    mark: options.mark === undefined ? undefined : integer('mark', options.mark, 0, 0xffffffff),
    congestionControl:
      options.congestionControl === undefined ? undefined : congestionControl(options.congestionControl),
  };
}

let lastCongestionControl = '';
let lastCongestionControlText = Buffer.alloc(0);

/** Kept from call to call, since a proxy asks for the same one with each connection. TCP_CA_NAME_MAX is 16 (include/net/tcp.h). */
function congestionControl(name: string): Buffer {
  if (name !== lastCongestionControl) {
    if (!/^[a-z0-9_-]{1,15}$/.test(name)) {
      throw invalid('congestionControl', `${JSON.stringify(name)} is not the name of a congestion control`);
    }
    lastCongestionControlText = Buffer.from(name, 'latin1');
    lastCongestionControl = name;
  }
  return lastCongestionControlText;
}

function address(text: string, field: string): IpAddress {
  if (typeof text !== 'string') throw invalid(field, `is a ${typeof text}, not the text of an IP address`);
  return parseIp(text, field);
}

function portRange([from, to]: readonly [number, number]): number {
  integer('localPortRange[0]', from, 1, 0xffff);
  integer('localPortRange[1]', to, from, 0xffff);
  return ((to << 16) | from) >>> 0;
}

function keepAlive(options: KeepAlive): NonNullable<CheckedConnecting['keepAlive']> {
  const { idleMs = KEEP_ALIVE_DEFAULT_MS, intervalMs = KEEP_ALIVE_DEFAULT_MS } = options;
  return {
    idle: Math.ceil(integer('keepAlive.idleMs', idleMs, 1, KEEP_ALIVE_MAX_MS) / 1000),
    interval: Math.ceil(integer('keepAlive.intervalMs', intervalMs, 1, KEEP_ALIVE_MAX_MS) / 1000),
    probes: integer('keepAlive.probes', options.probes ?? KEEP_ALIVE_DEFAULT_PROBES, 1, KEEP_ALIVE_MAX_PROBES),
  };
}

function invalid(field: string, message: string): InvalidInputError {
  return new InvalidInputError({ code: 'ERR_SOCKET_INVALID', op: 'socket.options', field, message });
}
