import {
  AF_INET,
  AF_INET6,
  check,
  FileDescriptor,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_RAW,
  libc,
  SOCK_CLOEXEC,
  SOCK_RAW,
} from '../../system/index.ts';
import type { LegacyTable } from './legacy-table.ts';

// <linux/netfilter_ipv4/ip_tables.h>, and the same numbers in <linux/netfilter_ipv6/ip6_tables.h>
const IPT_SO_GET_INFO = 64;
const IPT_SO_GET_ENTRIES = 65;
const XT_TABLE_MAXNAMELEN = 32;
const NF_INET_NUMHOOKS = 5;
// struct ipt_getinfo: name, valid_hooks, hook_entry[5], underflow[5], num_entries, size
const INFO_BYTES = XT_TABLE_MAXNAMELEN + 4 + NF_INET_NUMHOOKS * 8 + 8;
// struct ipt_get_entries: name, size, and entries that begin at a multiple of eight
const ENTRIES_HEADER_BYTES = 40;

/**
 * Reads one table of iptables-legacy in the namespace that the thread is in.
 *
 * @returns nothing where the kernel refuses
 */
export function readLegacyTable(family: 4 | 6, name: string): LegacyTable | undefined {
  const socket = libc().socket(family === 4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
  using descriptor = new FileDescriptor(check(socket, 'socket'), 'iptables-legacy');
  const level = family === 4 ? IPPROTO_IP : IPPROTO_IPV6;
  const info = Buffer.alloc(INFO_BYTES);
  info.write(name, 'latin1');
  if (libc().getsockopt(descriptor.fd, level, IPT_SO_GET_INFO, info, Int32Array.of(INFO_BYTES)) !== 0) return undefined;
  const numbers = (at: number, count: number) => Array.from({ length: count }, (_, i) => info.readUInt32LE(at + i * 4));
  const [validHooks] = numbers(XT_TABLE_MAXNAMELEN, 1) as [number];
  const hooksAt = XT_TABLE_MAXNAMELEN + 4;
  const hookEntries = numbers(hooksAt, NF_INET_NUMHOOKS);
  const underflows = numbers(hooksAt + NF_INET_NUMHOOKS * 4, NF_INET_NUMHOOKS);
  const size = info.readUInt32LE(INFO_BYTES - 4);
  const answer = Buffer.alloc(ENTRIES_HEADER_BYTES + size);
  answer.write(name, 'latin1');
  answer.writeUInt32LE(size, XT_TABLE_MAXNAMELEN);
  // The kernel refuses (EAGAIN) where the table has been replaced by one of another size since.
  const length = Int32Array.of(answer.length);
  if (libc().getsockopt(descriptor.fd, level, IPT_SO_GET_ENTRIES, answer, length) !== 0) return undefined;
  return { family, name, validHooks, hookEntries, underflows, entries: answer.subarray(ENTRIES_HEADER_BYTES) };
}
