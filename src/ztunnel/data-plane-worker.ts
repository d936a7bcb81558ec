import { workerData } from 'node:worker_threads';
import type { ReactorThreadData } from '../engine/index.ts';
import { openNamespace } from '../netns/index.ts';
import { DataPlane } from './data-plane.ts';
import type { DataPlaneOptions } from './messages.ts';

// The whole reactor runs inside the namespace, so that no listener and no dial has to enter it.
const { options, ...thread } = workerData as ReactorThreadData & { options: DataPlaneOptions };
using namespace = openNamespace(options.namespacePath);
namespace.run(() => new DataPlane(options, thread).run());
