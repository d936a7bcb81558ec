import { TlsContext, type TlsCredentials } from '../engine/index.ts';

/** The certificates of this node's workloads as the data plane uses them, by SPIFFE id. */
export class TlsContexts {
  readonly #byIdentity = new Map<string, TlsContext>();

  /** The context to use for new tunnels of a workload; undefined while its certificate has not come. Stays owned here. */
  get(identity: string): TlsContext | undefined {
    return this.#byIdentity.get(identity);
  }

  /**
   * Takes new credentials. Tunnels that stand keep the ones they were made with (facts section 1.11).
   *
   * @throws {EngineError} `ERR_ENGINE_CREDENTIALS`; the old ones stay in use
   */
  set(identity: string, credentials: TlsCredentials): void {
    const context = new TlsContext(credentials);
    this.#byIdentity.get(identity)?.close();
    this.#byIdentity.set(identity, context);
  }

  delete(identity: string): void {
    this.#byIdentity.get(identity)?.close();
    this.#byIdentity.delete(identity);
  }

  close(): void {
    for (const identity of [...this.#byIdentity.keys()]) this.delete(identity);
  }
}
