-- Fragment: a task's record, and its moves between the states. Needs _fair_queue.lua.
--
-- `tasks` holds one record per unfinished or dead task: msgpack array in the order of `save`; `payloads`
-- the bytes the broker never looks into, apart, so that a change of state does not copy them. A task is
-- in exactly one of `ready`, `leases`, `delayed`, `dead`, as its record's state says; `jobs` lists what
-- `cancel_job` may touch, which is all but the dead.

-- Memory that is full must not stop work from being finished, given back or extended, or it would stay
-- full. Redis refuses a script's first command that may grow memory, but none after a command that wrote:
-- this deletes nothing, and opens the way.
local function begin_even_if_memory_is_full()
  redis.call('HDEL', key.meta, '')
end

local function save(task)
  redis.call('HSET', key.tasks, task.id, cmsgpack.pack({
    task.state, task.tenant, task.job, task.cost, task.priority, task.lane, task.sequence, task.attempt,
    task.fence, task.worker, task.doomed, task.reason, task.died_at,
  }))
end

local function load(id)
  local packed = redis.call('HGET', key.tasks, id)
  if not packed then
    return nil
  end
  local record = cmsgpack.unpack(packed)
  return {
    id = id, state = record[1], tenant = record[2], job = record[3], cost = record[4], priority = record[5],
    lane = record[6], sequence = record[7], attempt = record[8], fence = record[9], worker = record[10],
    doomed = record[11], reason = record[12], died_at = record[13],
  }
end

local function add_cost(state, cost)
  redis.call('HINCRBY', key.meta, state .. '_cost', cost)
end

local function job_entry(task)
  return task.job .. SEPARATOR .. task.id
end

local function make_ready(task)
  task.state, task.fence, task.worker = 'ready', 0, ''
  save(task)
  redis.call('ZADD', key.ready, 0, member_of(task))
  add_cost('ready', task.cost)
  joined_line(task)
end

-- A new task, or one that begins anew, takes the last place in line.
local function admit(task)
  task.sequence = redis.call('HINCRBY', key.meta, 'sequence', 1)
  task.attempt, task.doomed, task.reason, task.died_at = 0, 0, '', 0
  redis.call('ZADD', key.jobs, 0, job_entry(task))
  make_ready(task)
end

-- Acked or cancelled: only counted from now on.
local function finish(task)
  redis.call('HDEL', key.tasks, task.id)
  redis.call('HDEL', key.payloads, task.id)
  redis.call('ZREM', key.jobs, job_entry(task))
  redis.call('HINCRBY', key.meta, 'done', 1)
end
