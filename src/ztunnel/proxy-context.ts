import type { MeshState, Workload } from '../discovery/index.ts';
import type { EngineMemory, PipePool, Reactor, TunnelPool } from '../engine/index.ts';
import type { PolicySet } from '../rbac/index.ts';
import type { Authorized } from './authorize.ts';
import type { ConnectionLog } from './connection-log.ts';
import type { Dialler } from './dialler.ts';
import type { DataPlaneOptions } from './messages.ts';
import type { TlsContexts } from './tls-contexts.ts';

/** A connection that is open, as far as the whole proxy cares. */
export interface LiveConnection {
  /** What its destination's policies see; undefined on the source's side, which enforces none. */
  readonly authorized: Authorized | undefined;
  abort(failure: string): void;
}

/** What the handlers of one data-plane thread share. */
export interface ProxyContext {
  readonly options: DataPlaneOptions;
  readonly reactor: Reactor;
  readonly memory: EngineMemory;
  readonly pipes: PipePool;
  readonly pool: TunnelPool;
  readonly state: MeshState;
  readonly policies: PolicySet;
  readonly tls: TlsContexts;
  readonly dialler: Dialler;
  readonly log: ConnectionLog;
  readonly live: Set<LiveConnection>;
  denied: number;
}

/** The workload behind an address, if it runs on this node. */
export function localWorkloadAt(proxy: ProxyContext, ip: string): Workload | undefined {
  const workload = proxy.state.workloadAt(proxy.options.network, ip);
  return workload?.node === proxy.options.nodeName ? workload : undefined;
}
