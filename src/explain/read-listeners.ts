import { formatIp, ipFromBytes } from '../ip/index.ts';
import type { Listener } from './kernel-view.ts';

// <net/tcp_states.h>, as /proc/net/tcp and /proc/net/udp print it
const TCP_LISTEN = '0A';
const UDP_UNCONNECTED = '07';

/** The sockets of one file of /proc/net (`tcp`, `tcp6`, `udp`, `udp6`) that take what comes. */
export function parseListeners(text: string, protocol: Listener['protocol'], family: 4 | 6): Listener[] {
  const wanted = protocol === 'tcp' ? TCP_LISTEN : UDP_UNCONNECTED;
  return text
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const [, local, , state] = line.trim().split(/\s+/);
      const [address, port] = local?.split(':') ?? [];
      if (state !== wanted || address === undefined || port === undefined) return [];
      return [{ protocol, family, ip: addressOf(address), port: Number.parseInt(port, 16) }];
    });
}

/** 32-bit words in host byte order, each in network byte order inside. */
function addressOf(hex: string): string {
  const bytes = Buffer.from(hex, 'hex');
  return formatIp(ipFromBytes(bytes.swap32()));
}
