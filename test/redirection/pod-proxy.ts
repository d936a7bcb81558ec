/**
 * A pod with an application, the world outside, and a stand-in for the proxy inside the pod: it goes where its client meant to go,
 * outbound by itself, inbound with the client's address, as the facts say of ztunnel (sections 2 and 7.1). Both families.
 */
import type { Server, Socket } from 'node:net';
import { openNetlink } from '../../src/netlink/index.ts';
import { addRoute } from '../../src/netlink/route/index.ts';
import type { NetworkNamespace } from '../../src/netns/index.ts';
import { INPOD_MARK } from '../../src/redirection/index.ts';
import { connect, listen, originalDestination } from '../../src/socket/index.ts';
import { vethPair, withNamespaces } from '../support/namespaces.ts';

export const POD = { v4: '10.1.0.2', v6: 'fd00:1::2' } as const;
export const WORLD = { v4: '10.1.0.1', v6: 'fd00:1::1' } as const;

export interface PodWithProxy {
  readonly pod: NetworkNamespace;
  readonly outside: NetworkNamespace;
  /** Connections that came by the proxy: which of its listeners, and where they went. */
  readonly accepted: { readonly port: number; readonly target: string }[];
}

/** Builds it, with a listener on port 80 at both ends that echoes, runs `body`, and takes everything away. */
export async function withPodProxy(body: (world: PodWithProxy) => Promise<void>): Promise<void> {
  await withNamespaces(['pod', 'outside'], async (...namespaces) => {
    const [pod, outside] = namespaces as [NetworkNamespace, NetworkNamespace];
    vethPair(
      { namespace: pod, device: 'eth0', addresses: [`${POD.v4}/24`, `${POD.v6}/64`] },
      { namespace: outside, device: 'eth0', addresses: [`${WORLD.v4}/24`, `${WORLD.v6}/64`] },
    );
    {
      using inside = openNetlink({ family: 'route', namespace: pod });
      addRoute(inside, { destination: '0.0.0.0/0', gateway: WORLD.v4 });
      addRoute(inside, { destination: '::/0', gateway: WORLD.v6 });
    }
    const accepted: PodWithProxy['accepted'] = [];
    const open = new Set<Server | Socket>();
    const serve = async (namespace: NetworkNamespace, port: number, serveOne: (socket: Socket) => void) => {
      const server = await listen({ namespace, host: '::', port, transparent: true });
      open.add(server);
      server.on('connection', (socket) => {
        open.add(socket);
        socket.on('error', () => {});
        serveOne(socket);
      });
    };
    try {
      for (const namespace of [pod, outside]) await serve(namespace, 80, (socket) => socket.pipe(socket));
      for (const port of [15001, 15006]) {
        await serve(pod, port, (client) => {
          const { ip, port: targetPort } = originalDestination(client);
          accepted.push({ port, target: ip });
          const source = { ip: client.remoteAddress!.replace('::ffff:', '') };
          const spoof = port === 15006 ? { source, transparent: true, bindAddressNoPort: true } : {};
          const mark = INPOD_MARK.value;
          connect({ namespace: pod, host: ip, port: targetPort, mark, timeoutMs: 3000, ...spoof }).then(
            (upstream) => {
              open.add(upstream);
              upstream.on('error', () => client.destroy()).on('close', () => client.destroy());
              client.on('close', () => upstream.destroy());
              client.pipe(upstream).pipe(client);
            },
            () => client.destroy(),
          );
        });
      }
      await body({ pod, outside, accepted });
    } finally {
      for (const one of open) 'destroy' in one ? one.destroy() : one.close();
    }
  });
}
