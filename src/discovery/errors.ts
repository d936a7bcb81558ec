import { InvalidInputError } from '../errors/index.ts';

/**
 * A workload, service or policy that the store cannot take: `ERR_DISCOVERY_INVALID`, or `ERR_DISCOVERY_LIMIT` where there
 * are too many. `field` is the path into what was handed over; nothing was changed.
 */
export class DiscoveryInputError extends InvalidInputError {
  override readonly name: string = 'DiscoveryInputError';
}

export interface MeshFileErrorInit {
  readonly code:
    | 'ERR_DISCOVERY_FILE_CONTENT'
    | 'ERR_DISCOVERY_FILE_LIMIT'
    | 'ERR_DISCOVERY_FILE_MISSING'
    | 'ERR_DISCOVERY_FILE_READ'
    | 'ERR_DISCOVERY_FILE_REFUSED';
  readonly path: string;
  readonly message: string;
  readonly line?: number | undefined;
  readonly column?: number | undefined;
  readonly field?: string | undefined;
  readonly cause?: unknown;
}

/** A mesh file that was refused whole. `line` and `column` count from 1; absent where the fault has no place in the text. */
export class MeshFileError extends InvalidInputError {
  override readonly name: string = 'MeshFileError';
  readonly path: string;
  readonly line: number | undefined;
  readonly column: number | undefined;

  constructor(init: MeshFileErrorInit) {
    const where = init.line === undefined ? init.path : `${init.path}:${init.line}:${init.column ?? 1}`;
    super({
      code: init.code,
      op: 'discovery.file',
      field: init.field,
      message: `${init.message} (${where})`,
      cause: init.cause,
    });
    this.path = init.path;
    this.line = init.line;
    this.column = init.column;
  }
}
