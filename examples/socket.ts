// A proxy that nobody knows of: a client connects to 203.0.113.10, the proxy's transparent listener gets the connection, reads where
// it was meant to go, and dials the server from the client's own address. Needs root and the programs `ip` and `nft` (in a mesh,
// ambient-kit/netlink and ambient-kit/redirection do what they do here).
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { createNamespace, deleteNamespace, type NetworkNamespace } from '../src/netns/index.ts';
import { connect, listen, originalDestination } from '../src/socket/index.ts';

const [client, proxy, server] = ['client', 'proxy', 'server'].map((end) =>
  createNamespace(`akx-${process.pid}-${end}`),
) as [NetworkNamespace, NetworkNamespace, NetworkNamespace];
const run = (namespace: NetworkNamespace, commands: string[]) => {
  for (const command of commands)
    namespace.run(() => execFileSync('/bin/sh', ['-c', `PATH=$PATH:/usr/sbin:/sbin; ${command}`]));
};
try {
  run(proxy, [
    `ip link add inside type veth peer name eth0 netns ${client.name}`,
    `ip link add outside type veth peer name eth0 netns ${server.name}`,
    'ip address add 10.0.1.1/24 dev inside && ip address add 203.0.113.1/24 dev outside',
    'ip link set lo up && ip link set inside up && ip link set outside up',
    'ip rule add fwmark 0x400 lookup 100 && ip route add local default dev lo table 100',
    `nft 'table ip mesh { chain prerouting { type filter hook prerouting priority mangle;
       socket transparent 1 meta mark set 0x400 accept
       iifname "inside" meta l4proto tcp tproxy to 127.0.0.1:15001 meta mark set 0x400
     }; }'`,
  ]);
  run(client, ['ip address add 10.0.1.5/24 dev eth0 && ip link set eth0 up && ip route add default via 10.0.1.1']);
  run(server, [
    'ip address add 203.0.113.10/24 dev eth0 && ip link set eth0 up && ip route add default via 203.0.113.1',
  ]);

  const application = await listen({ namespace: server, host: '203.0.113.10', port: 80 });
  application.on('connection', (socket) => socket.end(`you are ${socket.remoteAddress}`));

  const outbound = await listen({ namespace: proxy, host: '::', port: 15001, transparent: true });
  outbound.on('connection', async (downstream) => {
    const { ip: host, port } = originalDestination(downstream);
    const source = { ip: downstream.remoteAddress!.replace('::ffff:', '') };
    console.log(`proxy: ${source.ip} meant ${host}:${port}`);
    const upstream = await connect({ namespace: proxy, host, port, source, transparent: true });
    downstream.pipe(upstream).pipe(downstream);
  });

  const socket = await connect({ namespace: client, host: '203.0.113.10', port: 80 });
  console.log('client: the server says', JSON.stringify(String((await once(socket, 'data'))[0])));
  socket.destroy();
  application.close();
  outbound.close();
} finally {
  for (const namespace of [client, proxy, server]) {
    namespace.close();
    deleteNamespace(namespace.name!);
  }
}
