"""What is computed of each recording by itself.

What nuclr refuses (exit code 3) is an outcome, not a failure: the others go on. Its files are then empty, and the log
says why.
"""


checkpoint embed:
    input:
        files=files,
        model=MODELS,
    output:
        outcome=f"{RESULTS}/outcomes/{{session}}.csv",
        embeddings=f"{RESULTS}/embeddings/{{session}}.npz",
    params:
        source=source,
        options=f"{DEVICE} {READING}",
    log:
        f"{RESULTS}/logs/embed/{{session}}.log",
    threads: config["threads"]
    resources:
        mem_mb=config["memory_mb"],
        runtime=config["minutes"],
        **GPU,
    shell:
        "{{ OMP_NUM_THREADS={threads} nuclr --log-file {log:q} embed {params.source:q} -o {output.embeddings:q} "
        "--outcomes {output.outcome:q} {params.options} -q > /dev/null "
        "|| {{ [ $? -eq 3 ] && : > {output.embeddings:q}; }}; }}"


rule predict:
    input:
        files=files,
        embeddings=f"{RESULTS}/embeddings/{{session}}.npz",
        models=MODELS + local(DECODER),
    output:
        f"{RESULTS}/identities/{{session}}.csv",
    params:
        source=source,
        options=f"{PREDICTION} {READING}",
    log:
        f"{RESULTS}/logs/predict/{{session}}.log",
    resources:
        mem_mb=config["memory_mb"],
        runtime=config["minutes"],
    shell:
        "{{ nuclr --log-file {log:q} predict {params.source:q} --embeddings {input.embeddings:q} {params.options} "
        "-o {output:q} --overwrite -q > /dev/null || {{ [ $? -eq 3 ] && : > {output:q}; }}; }}"


rule report:
    input:
        files=files,
        embeddings=f"{RESULTS}/embeddings/{{session}}.npz",
        models=MODELS + local(DECODER),
    output:
        f"{RESULTS}/reports/{{session}}.html",
    params:
        source=source,
        options=f"{PREDICTION} {READING}",
    log:
        f"{RESULTS}/logs/report/{{session}}.log",
    resources:
        mem_mb=config["memory_mb"],
        runtime=config["minutes"],
    shell:
        "{{ nuclr --log-file {log:q} report {params.source:q} --embeddings {input.embeddings:q} {params.options} "
        "-o {output:q} --overwrite -q > /dev/null || {{ [ $? -eq 3 ] && : > {output:q}; }}; }}"


rule table:
    input:
        embeddings=lambda wildcards: [f"{RESULTS}/embeddings/{session}.npz" for session in usable(wildcards)],
        identities=predicted,
        neurons=matched,
        outcomes=[f"{RESULTS}/outcomes/{session}.csv" for session in SESSIONS],
    output:
        units=f"{RESULTS}/units.csv",
        outcomes=f"{RESULTS}/outcomes.csv",
    params:
        animals={session: row.get("animal", "") for session, row in SESSIONS.items()},
    log:
        f"{RESULTS}/logs/table.log",
    resources:
        mem_mb=config["memory_mb"],
        runtime=config["minutes"],
    script:
        "../scripts/table.py"
