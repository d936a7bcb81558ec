import { readFileSync } from 'node:fs';
import { formatIp, ipFromBytes } from '../ip/index.ts';
import { listTcpSockets, NetlinkError, openNetlink, type TcpState } from '../netlink/index.ts';
import type { NetworkNamespace } from '../netns/index.ts';
import { ENOENT } from '../system/index.ts';

/** Both ends of a TCP connection, as its socket has them. */
export interface OpenConnection {
  readonly local: { readonly ip: string; readonly port: number };
  readonly remote: { readonly ip: string; readonly port: number };
}

/** States of `<net/tcp_states.h>` in which a connection is there, or has not wholly ended: all but SYN_SENT, TIME_WAIT, LISTEN. */
const OPEN_STATES: ReadonlySet<string> = new Set(['01', '03', '04', '05', '08', '09', '0B']);

/** The same for sock_diag. */
const OPEN: readonly TcpState[] = [
  'ESTABLISHED',
  'SYN_RECV',
  'NEW_SYN_RECV',
  'FIN_WAIT1',
  'FIN_WAIT2',
  'CLOSE_WAIT',
  'LAST_ACK',
  'CLOSING',
];

/** The TCP connections that sockets of a namespace have open, IPv4 and IPv6. */
export function openConnections(namespace: NetworkNamespace): OpenConnection[] {
  using netlink = openNetlink({ family: 'sock-diag', namespace });
  try {
    return listTcpSockets(netlink, OPEN);
  } catch (error) {
    // A kernel without CONFIG_INET_DIAG.
    if (!(error instanceof NetlinkError) || error.errno !== ENOENT) throw error;
    return readProcNetTcp(namespace);
  }
}

/** Whether a namespace has any TCP socket. Counters of its own say so; the table of sockets is one for all namespaces. */
export function hasTcpSockets(namespace: NetworkNamespace): boolean {
  return namespace.run(() => ['sockstat', 'sockstat6'].some((file) => !/^TCP6?: inuse 0$/m.test(readCounters(file))));
}

/** As `TCP: inuse 3 orphan 0 …` and `TCP6: inuse 1`, cut behind the count. */
function readCounters(file: string): string {
  try {
    return readFileSync(`/proc/thread-self/net/${file}`, 'latin1').replaceAll(/(inuse \d+).*/g, '$1');
  } catch (error) {
    // A kernel without IPv6 has no such file, and no such sockets.
    if (file === 'sockstat6' && (error as { code?: unknown }).code === 'ENOENT') return 'TCP6: inuse 0';
    throw error;
  }
}

/** As {@link openConnections}, by the files that every kernel has: a walk of the machine's whole table for each, line by line. */
export function readProcNetTcp(namespace: NetworkNamespace): OpenConnection[] {
  // `/proc/net` is the main thread's, whose namespace may be another.
  return namespace.run(() =>
    ['tcp', 'tcp6'].flatMap((file) => {
      try {
        return parseProcNetTcp(readFileSync(`/proc/thread-self/net/${file}`, 'latin1'));
      } catch (error) {
        // A kernel without IPv6 has no such file.
        if (file === 'tcp6' && (error as { code?: unknown }).code === 'ENOENT') return [];
        throw error;
      }
    }),
  );
}

/**
 * Reads `/proc/net/tcp` or `tcp6`: a heading, then a line a socket, `sl local_address rem_address st …`, addresses as 32-bit words in
 * host byte order (proc(5)).
 */
export function parseProcNetTcp(text: string): OpenConnection[] {
  const connections: OpenConnection[] = [];
  for (const line of text.split('\n').slice(1)) {
    const [, local, remote, state] = line.trim().split(/\s+/);
    if (local === undefined || remote === undefined || state === undefined || !OPEN_STATES.has(state)) continue;
    connections.push({ local: parseEnd(local), remote: parseEnd(remote) });
  }
  return connections;
}

function parseEnd(text: string): { ip: string; port: number } {
  const [address = '', port = ''] = text.split(':');
  const bytes = Buffer.from(address, 'hex');
  return { ip: formatIp(ipFromBytes(bytes.swap32())), port: Number.parseInt(port, 16) };
}
