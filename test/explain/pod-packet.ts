import type { Packet } from '../../src/explain/index.ts';
import type { Flow } from '../redirection/pod-flows.ts';

/** As the pod sees the flow's first packet. */
export function packetOf({ protocol, from, host, port, mark, source }: Flow): Packet {
  const v6 = host.includes(':');
  const inside = v6 ? 'fd00:1::2' : '10.1.0.2';
  const isOwn = host === inside || host === '127.0.0.1' || host === '::1';
  const vm = host === '10.2.0.1' || host === 'fd00:2::1';
  const beyond = vm ? (v6 ? 'fd00:2::2' : '10.2.0.2') : v6 ? 'fd00:1::1' : '10.1.0.1';
  const device = from === 'pod' ? {} : { device: vm ? 'vm0' : 'eth0' };
  return {
    source: source ?? (from === 'outside' ? beyond : isOwn ? host : inside),
    destination: host,
    destinationPort: port,
    // The kernel picks another one: no rule tells them apart.
    sourcePort: 40_000,
    protocol,
    ...device,
    ...(mark === undefined ? {} : { mark }),
  };
}
