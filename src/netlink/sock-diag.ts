import { formatIp, ipFromBytes } from '../ip/index.ts';
import { AF_INET } from '../system/index.ts';
import { NLM_F_DUMP } from './constants.ts';
import { MessageWriter } from './message-writer.ts';
import type { Netlink } from './netlink.ts';
import { NetlinkError } from './netlink-error.ts';

/**
 * `<linux/inet_diag.h>`. The older of two forms, and the one that gives both families: a walk of the table that all namespaces share
 * takes milliseconds, and SOCK_DIAG_BY_FAMILY needs one for each.
 */
const TCPDIAG_GETSOCK = 18;
/** `struct inet_diag_msg` */
const INET_DIAG_MSG_BYTES = 72;
/** `struct inet_diag_sockid` of a request. */
const SOCKID_BYTES = 48;

/** States of a TCP socket: `<net/tcp_states.h>`. */
export const TCP_STATES = {
  ESTABLISHED: 1,
  SYN_SENT: 2,
  SYN_RECV: 3,
  FIN_WAIT1: 4,
  FIN_WAIT2: 5,
  TIME_WAIT: 6,
  CLOSE: 7,
  CLOSE_WAIT: 8,
  LAST_ACK: 9,
  LISTEN: 10,
  CLOSING: 11,
  /** A connection that a listener has not accepted; given back as SYN_RECV. */
  NEW_SYN_RECV: 12,
} as const;
export type TcpState = keyof typeof TCP_STATES;

/** A TCP socket of a namespace. */
export interface TcpSocket {
  /** 0 for what the kernel calls by a number that is not in {@link TCP_STATES}. */
  readonly state: number;
  /** v4-mapped comes out as IPv4. */
  readonly local: { readonly ip: string; readonly port: number };
  readonly remote: { readonly ip: string; readonly port: number };
  /** Of the socket's file; 0 where no process has one any more. */
  readonly inode: number;
}

/**
 * The TCP sockets of a namespace, IPv4 and IPv6, as `ss -t` has them (sock_diag(7)): several times as fast as `/proc/net/tcp`.
 *
 * @param netlink - of family `sock-diag`
 * @param states - which; one socket is in one
 * @throws {NetlinkError} `ENOENT` where the kernel has no CONFIG_INET_DIAG
 */
export function listTcpSockets(
  netlink: Netlink,
  states: readonly TcpState[],
  options: { readonly signal?: AbortSignal | undefined } = {},
): TcpSocket[] {
  const request = encodeListTcp(states);
  return netlink
    .request(request, { op: 'sockDiag.listTcp', ...options })
    .map(({ payload }) => decodeTcpSocket(payload));
}

/** The dump request, `struct inet_diag_req`. */
export function encodeListTcp(states: readonly TcpState[]): Buffer {
  const bits = states.reduce((sum, state) => sum | (1 << TCP_STATES[state]), 0);
  const writer = new MessageWriter().begin(TCPDIAG_GETSOCK, NLM_F_DUMP);
  // The kernel looks at no family here.
  writer.u8(0).u8(0).u8(0).u8(0).bytes(new Uint8Array(SOCKID_BYTES)).u32(bits).u32(0);
  return writer.end().finish();
}

/** @throws {NetlinkError} `ERR_NETLINK_MALFORMED` */
export function decodeTcpSocket(payload: Buffer): TcpSocket {
  if (payload.length < INET_DIAG_MSG_BYTES) {
    const message = `a socket of ${payload.length} bytes, where struct inet_diag_msg has ${INET_DIAG_MSG_BYTES}`;
    throw new NetlinkError({ op: 'sockDiag.decode', code: 'ERR_NETLINK_MALFORMED', message });
  }
  const length = payload[0] === AF_INET ? 4 : 16;
  const ip = (at: number) => formatIp(ipFromBytes(payload.subarray(at, at + length)));
  return {
    state: payload[1]!,
    local: { ip: ip(8), port: payload.readUInt16BE(4) },
    remote: { ip: ip(24), port: payload.readUInt16BE(6) },
    inode: payload.readUInt32LE(68),
  };
}
