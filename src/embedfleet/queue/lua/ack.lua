-- Finish leased tasks, whose effects are durable.
--
-- KEYS[1]  meta               HASH  counters, virtual times
-- KEYS[2]  ready              ZSET  tasks in line, ordered by bytes
-- KEYS[3]  in_flight          HASH  tenant -> leased tasks
-- KEYS[4]  shares             HASH  tenant -> "stride cap"
-- KEYS[5]  interactive        ZSET  eligible tenants by virtual start
-- KEYS[6]  bulk               ZSET  the same for the bulk lane
-- KEYS[7]  interactive_debts  ZSET  what absent tenants owe, by virtual start
-- KEYS[8]  bulk_debts         ZSET  the same for the bulk lane
-- KEYS[9]  tasks              HASH  id -> record
-- KEYS[10] payloads           HASH  id -> payload
-- KEYS[11] jobs               ZSET  job / id of what may be cancelled, ordered by bytes
-- KEYS[12] leases             ZSET  id by expiry
--
-- ARGV[1..] leases  of each lease: id, fence; at most 1,000
--
-- Returns for each lease the fence and the worker that hold the task: the lease's own fence if it was acked,
-- the fence of another lease, or 0 if no worker holds it.
-- Keeps: enqueued = ready + leased + delayed + dead + done; a stale fence changes nothing.
-- Uses: _fair_queue.lua, _tasks.lua, _leases.lua

local answer = {}

begin_even_if_memory_is_full()
for i = 1, #ARGV, 2 do
  local fence = tonumber(ARGV[i + 1])
  local task, holder, worker = find_held(ARGV[i], fence)
  if task then
    holder, worker = fence, task.worker
    end_lease(task)
    finish(task)
  end
  answer[#answer + 1] = holder
  answer[#answer + 1] = worker
end
return answer
