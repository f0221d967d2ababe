/**
 * Generates libs/api/gen from proto/ with buf and protoc-gen-es, both of which are in node_modules: no network is needed.
 *
 *   npm run generate
 */
import { generate } from './generate-api.ts'

generate()
