-- Fragment: finds the holder of a task, and ends leases. Needs _tasks.lua.

-- The task, if this fence holds it. Otherwise nil, and the fence and the worker that hold it; 0 and '' if no
-- worker does.
local function find_held(id, fence)
  local task = load(id)
  if not task or task.state ~= 'leased' then
    return nil, 0, ''
  elseif task.fence ~= fence then
    return nil, task.fence, task.worker
  end
  return task
end

-- Ends the lease. The caller decides what happens to the task.
local function end_lease(task)
  redis.call('ZREM', key.leases, task.id)
  add_cost('leased', -task.cost)
end

-- Makes the task ready again, or finishes it if its job was cancelled during the lease.
local function return_to_line(task)
  if task.doomed == 1 then
    finish(task)
  else
    make_ready(task)
  end
end
