import type { MeshState, Workload } from '../discovery/index.ts';
import type { EngineMemory, PipePool, Reactor } from '../engine/index.ts';
import type { NetworkNamespace } from '../netns/index.ts';
import type { PolicySet } from '../rbac/index.ts';
import type { Authorized } from './authorize.ts';
import type { ConnectionLog } from './connection-log.ts';
import type { DataPlaneOptions } from './messages.ts';
import type { ProxyInstance } from './proxy-instance.ts';
import type { TlsContexts } from './tls-contexts.ts';

/** A connection that is open, as far as the whole proxy cares. */
export interface LiveConnection {
  /** What its destination's policies see; undefined on the source's side, which enforces none. */
  readonly authorized: Authorized | undefined;
  abort(failure: string): void;
}

/** What all instances of one data-plane thread share. */
export interface ProxyContext {
  readonly options: DataPlaneOptions;
  readonly reactor: Reactor;
  /** Where the thread is but for the moments in which it makes a socket elsewhere. */
  readonly home: NetworkNamespace;
  readonly memory: EngineMemory;
  readonly pipes: PipePool;
  readonly state: MeshState;
  readonly policies: PolicySet;
  readonly tls: TlsContexts;
  readonly log: ConnectionLog;
  readonly live: Set<LiveConnection>;
  denied: number;
  /** The instance that takes what comes to a workload; undefined for workloads that somebody else serves. */
  serving(workload: Workload): ProxyInstance | undefined;
}
