import { hboneFidelity, type MeshOptions } from '../hbone/fidelity.ts';
import { Loopback } from './loopback.ts';

hboneFidelity({
  name: 'the engine',
  async start(target, options: MeshOptions = {}) {
    const { loopback, port } = await Loopback.start(target, {
      serverHttp2: {
        ...(options.smallWindows
          ? { maxFrameBytes: 16384, initialWindowBytes: 65535, connectionWindowBytes: 65535 }
          : undefined),
        ...(options.maxStreams === undefined ? undefined : { maxConcurrentStreams: options.maxStreams }),
      },
    });
    return {
      port,
      tunnels: () => loopback.tunnels.length,
      closeTarget() {
        for (const server of loopback.targets) server.close();
      },
      cut() {
        for (const tunnel of loopback.tunnels) tunnel.close();
      },
      close: () => loopback[Symbol.asyncDispose](),
    };
  },
});
